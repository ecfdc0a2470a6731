// Package instances answers: what does the log show of one container?
//
// It collects the events of a container's latest instance, reads what they say of launch,
// image, mounts and programs, and computes the container's register. It judges nothing.
package instances

import (
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/launches"
	"github.com/cima-project/cima/hw/verify/match"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/canonical"
)

// Instance is what the log shows of a container, from its latest launch on.
type Instance struct {
	Events     []*logs.Event // launch first
	register   hw.Digest
	LaunchSum  hw.Digest // launch digest; zero where the launch is an earlier version's
	ImageEvent *logs.Event
	Places     match.Places // of mounts that are not of the place that was asked for
	Execs      []policy.Exec
	Unproved   string // why programs may have run that Execs lacks; "" where nothing says so
	launches.Measured
}

// Read reads the latest instance of a container from all events that are shown, in their
// order. It fails where they contradict themselves, or don't show all that an instance has.
func Read(all iter.Seq[*logs.Event], id string) (*Instance, error) {
	in := &Instance{}
	var missed []*logs.Event
	for e := range all {
		switch {
		case e.Operation == logs.OpMissed:
			missed = append(missed, e)
			continue
		case e.Container != id:
			continue
		case e.Operation == logs.OpLaunch:
			in = &Instance{}
		case len(in.Events) == 0:
			continue // of an earlier instance, whose launch is hidden
		}
		in.Events = append(in.Events, e)
		if d, ok := e.MeasuredDigest(); ok {
			in.register = in.register.Extend(d)
		}
	}
	if len(in.Events) == 0 {
		return nil, errors.New("no launch event of the container is shown")
	}
	if err := in.read(); err != nil {
		return in, err
	}
	in.executed(missed)
	return in, nil
}

func (in *Instance) read() error {
	for _, e := range in.Events {
		switch e.Operation {
		case logs.OpExit:
			return errors.New("the container's instance had ended when the claims were fixed")
		case logs.OpImage:
			if in.ImageEvent != nil {
				return errors.New("the instance has two image events: which one is it?")
			}
			in.ImageEvent = e
		case logs.OpMounted:
			if err := in.readMounted(e); err != nil {
				return err
			}
		}
	}
	if in.ImageEvent == nil {
		return errors.New("no image event of the container's instance is shown")
	}
	var err error
	if in.Launch, err = launches.Read(in.Events[0].Body()); err != nil {
		return fmt.Errorf("launch event: %w", err)
	}
	if in.Image, err = launches.ReadImage(in.ImageEvent.Body()); err != nil {
		return fmt.Errorf("image event: %w", err)
	}
	if !in.Earlier {
		in.LaunchSum, err = in.Digest()
	}
	return err
}

// readMounted reads where mounts lead that are not of the place that was asked for.
func (in *Instance) readMounted(e *logs.Event) error {
	var body logs.MountedBody
	if err := canonical.Unmarshal(e.Body(), &body); err != nil {
		return fmt.Errorf("mounted event: %w", err)
	}
	if (len(body.Mounts) == 0) == (body.MountsSHA384 == nil) {
		return errors.New("mounted event: must have mounts or mounts_sha384, and not both")
	}
	in.Places.Hidden = in.Places.Hidden || body.MountsSHA384 != nil
	for _, m := range body.Mounts {
		in.Places.Add(m.Destination, m.Place)
	}
	return nil
}

// executed reads the programs that were executed while that was watched.
func (in *Instance) executed(missed []*logs.Event) {
	if !slices.ContainsFunc(in.Events, func(e *logs.Event) bool { return e.Operation == logs.OpExec }) {
		in.Unproved = "not measured: there is no exec event"
	}
	for _, e := range in.Events {
		if e.Operation != logs.OpExec {
			continue
		}
		one, why := executedBy(e)
		if why != "" {
			in.Unproved = why
			continue
		}
		in.Execs = append(in.Execs, one)
	}
	// Also gaps before its launch: the daemon logs one once, and again when it has doubled.
	for _, e := range missed {
		var body logs.MissedBody
		if canonical.Decode(e.Body(), &body) != nil || body.What == logs.MissedExec || body.What == logs.MissedEvent {
			in.Unproved = "missed: " + body.Why
		}
	}
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
