package verify

import (
	"errors"
	"fmt"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/launches"
	"github.com/cima-project/cima/hw/verify/match"
	"github.com/cima-project/cima/hw/verify/replay"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// instance is what the log shows of the container that asked for evidence: its
// events from the latest launch on.
type instance struct {
	events   []*logs.Event // launch first
	register hw.Digest
	digest   rpc.Digest // launch digest; zero where the launch is an earlier version's
	launches.Measured
	imageEvent *logs.Event
	places     match.Places // of mounts that are not of the place that was asked for
}

// caller: the log shows the same of the caller as the claims, and shows events of
// no other one, unless the claims say that the daemon isolates no callers. It
// returns what the log shows of the container; nil for a process of the host.
func caller(ev *evidence) (Step, *instance) {
	id := ""
	if ev.claims.Container != nil {
		id = ev.claims.Container.ID
	}
	for i, e := range ev.log {
		if e.event != nil && e.event.Container != "" && e.event.Container != id && ev.claims.Log.View != rpc.ViewWhole {
			return fail(fmt.Sprintf("event %d is of another caller", i), Comparison{"container", id, e.event.Container}), nil
		}
	}
	if ev.claims.Host != nil {
		return pass("a process of the host" + unitWords(ev.claims.Host) + ": the agent's word alone, no event is about it"), nil
	}
	in, err := readInstance(ev.prefix(), id)
	if err != nil {
		return fail(err.Error()), nil
	}
	compared := in.against(ev.claims.Container)
	for _, c := range compared {
		if c.Want != c.Got {
			return fail("the log gives another "+c.What+" than the claims", compared...), in
		}
	}
	given := fmt.Sprintf("%d events of container %s give its register, ", len(in.events), replay.ShortID(id))
	switch config := in.ImageConfig; {
	case in.Earlier:
		return warn(given+"its image and its owner; "+loggedEarlier, compared...), in
	case config != "" && in.Image.Digest != "" && config != in.Image.Digest:
		return fail("what was asked for was computed by another image's config than the image event's",
			Comparison{"image config", in.Image.Digest, config}), in
	}
	return pass(given+"launch digest, defaults digest and image", compared...), in
}

// loggedEarlier is said of a launch that a daemon logged before it was upgraded.
const loggedEarlier = "its launch was logged by an earlier version (evidence profile v1), and has no launch digest"

// readInstance collects the events of the container's latest instance.
func readInstance(prefix []entry, id string) (*instance, error) {
	in := &instance{}
	for _, e := range prefix {
		switch {
		case e.event == nil || e.event.Container != id:
			continue
		case e.event.Operation == logs.OpLaunch:
			in = &instance{}
		case len(in.events) == 0:
			continue // of an earlier instance, whose launch is hidden
		}
		in.events = append(in.events, e.event)
		if d, ok := e.event.MeasuredDigest(); ok {
			in.register = in.register.Extend(d)
		}
	}
	if len(in.events) == 0 {
		return nil, errors.New("no launch event of the container is shown")
	}
	return in, in.read()
}

func (in *instance) read() error {
	var image *logs.Event
	for _, e := range in.events {
		switch e.Operation {
		case logs.OpExit:
			return errors.New("the container's instance had ended when the claims were fixed")
		case logs.OpImage:
			if image != nil {
				return errors.New("the instance has two image events: which one is it?")
			}
			image = e
		case logs.OpMounted:
			if err := in.readMounted(e); err != nil {
				return err
			}
		}
	}
	if image == nil {
		return errors.New("no image event of the container's instance is shown")
	}
	launch := in.events[0]
	in.imageEvent = image
	var err error
	if in.Launch, err = launches.Read(launch.Body()); err != nil {
		return fmt.Errorf("launch event: %w", err)
	}
	if in.Image, err = launches.ReadImage(image.Body()); err != nil {
		return fmt.Errorf("image event: %w", err)
	}
	if !in.Earlier {
		in.digest, err = in.Digest()
	}
	return err
}

// against compares the claims with the log, whose values are Want.
func (in *instance) against(c *rpc.ContainerClaims) []Comparison {
	return []Comparison{
		{"container register", in.register.String(), c.Register.String()},
		{"launch digest", shownDigest(in.digest), shownDigest(c.LaunchDigest)},
		{"defaults digest", shownDigest(in.DefaultsDigest), shownDigest(c.DefaultsDigest)},
		{"image", in.Image.Reference, c.Image},
		{"image digest", in.Image.Digest, c.ImageDigest},
		{"cgroup owner", fmt.Sprint(in.CgroupOwner), fmt.Sprint(c.Assurance.CgroupOwner)},
	}
}

// shownDigest is a digest as a comparison shows it.
func shownDigest(d rpc.Digest) string {
	if d == (rpc.Digest{}) {
		return "none"
	}
	return d.String()
}

func unitWords(h *rpc.HostClaims) string {
	if h.Unit == "" {
		return fmt.Sprintf(", uid %d", h.UID)
	}
	return fmt.Sprintf(", unit %s, uid %d", h.Unit, h.UID)
}
