package verify

import (
	"fmt"
	"strings"

	"github.com/cima-project/cima/hw/verify/evidence"
	"github.com/cima-project/cima/hw/verify/instances"
)

// power: which containers could have acted as root of the guest, and so on all
// that was measured?
func power(ev *evidence.Bundle, opts Options) Step {
	if opts.Policy == nil {
		return skip(noPolicy + ": " + powerWords(ev))
	}
	refused := opts.Policy.JudgePower(ev.PowerClasses())
	if len(refused) > 0 {
		return fail("the policy does not allow it: "+powerful(refused), Comparison{"power of containers", "what [power] allows", strings.Join(refused[:min(len(refused), maxClasses)], ", ")})
	}
	return pass(powerWords(ev))
}

// maxClasses is how many classes a sentence names.
const maxClasses = 20

func powerWords(ev *evidence.Bundle) string {
	classes := ev.PowerClasses()
	if len(classes) == 0 {
		return "the log knows of no container that could act as root of the guest"
	}
	return powerful(classes)
}

func powerful(classes []string) string {
	words := strings.Join(classes[:min(len(classes), maxClasses)], ", ")
	if more := len(classes) - maxClasses; more > 0 {
		words += fmt.Sprintf(", and %d more", more)
	}
	return "containers could act as root of the guest: " + words
}

// events: the events that the policy wants or forbids.
func events(ev *evidence.Bundle, in *instances.Instance, opts Options) (Step, error) {
	if opts.Policy == nil {
		return skip(noPolicy), nil
	}
	judged := opts.Policy.Events()
	if in != nil {
		judged.Places = in.Places
	}
	for e := range ev.ShownEvents() {
		if e.Container != "" {
			continue
		}
		if err := judged.Judge(e); err != nil {
			return Step{}, err
		}
	}
	if in != nil {
		for _, e := range in.Events {
			if err := judged.Judge(e); err != nil {
				return Step{}, err
			}
		}
	}
	var f findings
	f.add(judged.Findings())
	return f.step("the log is as the policy wants it"), nil
}
