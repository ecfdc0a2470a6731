package verify

import (
	"encoding/json/jsontext"
	"errors"
	"fmt"

	"github.com/cima-project/cima/logs/canonical"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/replay"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// instance is what the log shows of the container that asked for evidence: its
// events from the latest launch on.
type instance struct {
	events   []*logs.Event // launch first
	register hw.Digest
	digest   rpc.Digest // launch digest
	launch   launchFacts
	image    imageFacts
}

// launchFacts are the members of a launch event that the claims or a policy
// are held against (cima-evidence(7), LAUNCH).
type launchFacts struct {
	Source      string  `json:"source"`
	CgroupOwner *uint32 `json:"cgroup_owner"`
}

// imageFacts are the members of an image event that the claims or a policy
// are held against (cima-evidence(7), Operations).
type imageFacts struct {
	Reference string `json:"reference"`
	Digest    string `json:"digest"`   // of the config
	Manifest  string `json:"manifest"` // of the manifest or index
	Absent    string `json:"absent"`   // why all else is empty
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
	return pass(fmt.Sprintf("%d events of container %s give its register, launch digest and image", len(in.events), replay.ShortID(id)), compared...), in
}

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
		}
	}
	if image == nil {
		return errors.New("no image event of the container's instance is shown")
	}
	launch := in.events[0]
	if err := canonical.Decode(launch.Body(), &in.launch); err != nil {
		return fmt.Errorf("launch event: %w", err)
	}
	if err := canonical.Decode(image.Body(), &in.image); err != nil {
		return fmt.Errorf("image event: %w", err)
	}
	var err error
	in.digest, err = launchDigest(launch, image)
	return err
}

// launchDigest is SHA-384(JCS({launch, image})).
func launchDigest(launch, image *logs.Event) (rpc.Digest, error) {
	digest, err := canonical.Sum(map[string]jsontext.Value{"launch": launch.Body(), "image": image.Body()})
	if err != nil {
		return digest, fmt.Errorf("launch digest: %w", err)
	}
	return digest, nil
}

// against compares the claims with the log, whose values are Want.
func (in *instance) against(c *rpc.ContainerClaims) []Comparison {
	compared := []Comparison{
		{"container register", in.register.String(), c.Register.String()},
		{"launch digest", in.digest.String(), c.LaunchDigest.String()},
		{"image", in.image.Reference, c.Image},
		{"image digest", in.image.Digest, c.ImageDigest},
	}
	if in.launch.CgroupOwner != nil {
		compared = append(compared, Comparison{"cgroup owner",
			fmt.Sprint(*in.launch.CgroupOwner), fmt.Sprint(c.Assurance.CgroupOwner)})
	}
	return compared
}

func unitWords(h *rpc.HostClaims) string {
	if h.Unit == "" {
		return fmt.Sprintf(", uid %d", h.UID)
	}
	return fmt.Sprintf(", unit %s, uid %d", h.Unit, h.UID)
}
