package verify

import (
	"encoding/json/v2"
	"fmt"
	"slices"
	"strings"

	"github.com/cima-project/cima/hw/verify/evidence"
	"github.com/cima-project/cima/hw/verify/instances"
	"github.com/cima-project/cima/logs"
)

// power: which containers could have acted as root of the guest, and so on all
// that was measured?
func power(ev *evidence.Bundle, opts Options) Step {
	if opts.Policy == nil {
		return skip(noPolicy + ": " + powerWords(ev))
	}
	refused := opts.Policy.JudgePower(classesOf(ev))
	if len(refused) > 0 {
		return fail("the policy does not allow it: "+powerful(refused), Comparison{"power of containers", "what [power] allows", strings.Join(refused[:min(len(refused), maxClasses)], ", ")})
	}
	return pass(powerWords(ev))
}

// classesOf are the classes of all power events, each once. An event that can't be read,
// or has none, has a class that no policy can allow.
func classesOf(ev *evidence.Bundle) (classes []string) {
	for e := range ev.ShownEvents() {
		if e.Operation != logs.OpPower {
			continue
		}
		of := powerClasses(e)
		if len(of) == 0 {
			of = []string{"(not known)"}
		}
		classes = append(classes, of...)
	}
	slices.Sort(classes)
	return slices.Compact(classes)
}

// maxClasses is how many classes a sentence names.
const maxClasses = 20

func powerWords(ev *evidence.Bundle) string {
	classes := classesOf(ev)
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

// powerClasses are the classes in a power event. Where they can't be read there
// are none, and no policy allows that.
func powerClasses(e *logs.Event) []string {
	var power logs.PowerBody
	if json.Unmarshal(e.Body(), &power) != nil {
		return nil
	}
	return power.Classes
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
