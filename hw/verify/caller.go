package verify

import (
	"fmt"

	"github.com/cima-project/cima/hw/verify/evidence"
	"github.com/cima-project/cima/hw/verify/instances"
	"github.com/cima-project/cima/hw/verify/replay"
	"github.com/cima-project/cima/rpc"
)

// caller: the log shows the same of the caller as the claims, and shows events of
// no other one, unless the claims say that the daemon isolates no callers. It
// returns what the log shows of the container; nil for a process of the host.
func caller(ev *evidence.Bundle) (Step, *instances.Instance) {
	id := ""
	if ev.Claims.Container != nil {
		id = ev.Claims.Container.ID
	}
	for i, e := range ev.Log {
		if e.Event != nil && e.Event.Container != "" && e.Event.Container != id && ev.Claims.Log.View != rpc.ViewWhole {
			return fail(fmt.Sprintf("event %d is of another caller", i), Comparison{"container", id, e.Event.Container}), nil
		}
	}
	if ev.Claims.Host != nil {
		return pass("a process of the host" + unitWords(ev.Claims.Host) + ": the agent's word alone, no event is about it"), nil
	}
	in, err := instances.Read(ev.ShownEvents(), id)
	if err != nil {
		return fail(err.Error()), nil
	}
	var f findings
	f.add(in.Against(ev.Claims.Container))
	compared := f.compared
	for _, c := range compared {
		if c.Want != c.Got {
			return fail("the log gives another "+c.What+" than the claims", compared...), in
		}
	}
	given := fmt.Sprintf("%d events of container %s give its register, ", len(in.Events), replay.ShortID(id))
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

func unitWords(h *rpc.HostClaims) string {
	if h.Unit == "" {
		return fmt.Sprintf(", uid %d", h.UID)
	}
	return fmt.Sprintf(", unit %s, uid %d", h.Unit, h.UID)
}
