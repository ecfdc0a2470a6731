package verify

import (
	"slices"

	"github.com/cima-project/cima/logs/canonical"

	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/logs"
)

// wantExecs holds what was executed against the policy: each program must be one
// that it lists, and none may have run unmeasured, as far as the log shows.
func wantExecs(f *findings, prefix []entry, own []*logs.Event, p *policy.Container) {
	watched := false
	for _, e := range own {
		if e.Operation == logs.OpExec {
			watched = true
			wantExec(f, p, e)
		}
	}
	f.want(watched, "executions", "measured", measuredOrNot(watched))
	if p.AllowMissed {
		return
	}
	// Also those before its launch: the daemon logs a gap once, and again when it
	// has doubled.
	for _, e := range prefix {
		if e.event == nil || e.event.Operation != logs.OpMissed {
			continue
		}
		var missed logs.MissedBody
		if canonical.Decode(e.event.Body(), &missed) != nil || missed.What == logs.MissedExec || missed.What == logs.MissedEvent {
			f.want(false, "executions of all containers", "measured", "missed: "+missed.Why)
		}
	}
}

func measuredOrNot(yes bool) string {
	if yes {
		return "measured"
	}
	return "not measured: there is no exec event"
}

func wantExec(f *findings, p *policy.Container, e *logs.Event) {
	var exec logs.ExecBody
	if err := canonical.Decode(e.Body(), &exec); err != nil {
		f.want(false, "exec", "an event with path and sha384", string(e.Body()))
		return
	}
	what := "exec of " + exec.Path
	if exec.Path == "" {
		what = "exec of a program"
	}
	switch {
	case exec.Verity != "" && slices.Contains(p.ExecVerity, exec.Verity):
	case exec.SHA384 == nil && exec.Verity != "":
		f.want(false, what, policy.OneOf(p.ExecVerity), exec.Verity)
	case exec.SHA384 != nil:
		f.want(slices.Contains(p.Execs, *exec.SHA384), what, policy.OneOf(p.Execs), exec.SHA384.String())
	case exec.Digest != "":
		f.want(p.AllowMissed, what, policy.OneOf(p.Execs), exec.Digest)
	case exec.Writable:
		f.want(p.AllowMissed, what, "measured", "not measured: somebody could write the file")
	default:
		f.want(p.AllowMissed, what, "measured", "missed: "+exec.Missed)
	}
}
