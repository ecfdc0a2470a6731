package verify

import (
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/canonical"
)

// executed are the programs that the log shows of a container. unproved says why they may
// not be all: "" where they are all that was executed while it was watched.
func executed(prefix []entry, own []*logs.Event) (execs []policy.Exec, unproved string) {
	unproved = "not measured: there is no exec event"
	for _, e := range own {
		if e.Operation != logs.OpExec {
			continue
		}
		if len(execs) == 0 && unproved != "" {
			unproved = ""
		}
		one, why := executedBy(e)
		if why != "" {
			unproved = why
			continue
		}
		execs = append(execs, one)
	}
	// Also gaps before its launch: the daemon logs one once, and again when it has doubled.
	for _, e := range prefix {
		if e.event == nil || e.event.Operation != logs.OpMissed {
			continue
		}
		var missed logs.MissedBody
		if canonical.Decode(e.event.Body(), &missed) != nil || missed.What == logs.MissedExec || missed.What == logs.MissedEvent {
			unproved = "missed: " + missed.Why
		}
	}
	return execs, unproved
}

// executedBy reads an exec event; why says why it has no digest that proves anything.
func executedBy(e *logs.Event) (one policy.Exec, why string) {
	var exec logs.ExecBody
	if err := canonical.Decode(e.Body(), &exec); err != nil {
		return one, "an exec event can't be read"
	}
	if exec.SHA384 != nil {
		one.SHA384 = exec.SHA384.String()
	}
	one.Verity = exec.Verity
	switch {
	case one != policy.Exec{}:
		return one, ""
	case exec.Digest != "":
		return one, "a program has a digest by another hash alone, " + exec.Digest
	case exec.Writable:
		return one, "somebody could write the file of a program"
	}
	return one, "missed: " + exec.Missed
}
