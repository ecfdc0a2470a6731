package workload

import (
	"slices"
	"strconv"
	"strings"

	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// maxPower is how many classes of power are selectors; of more, "power:more" is one.
const maxPower = 64

// selectors are what an entry can ask for (cima-spire(7), SELECTORS). What isn't known has
// no selector, so that no entry is met by it. No value is a text that a container chose: an
// image's name and a pod's are left out. Names of a policy come besides (policies.names).
func selectors(who rpc.ProcessIdentity) []string {
	if who.Host != nil {
		values := []string{"host"}
		if who.Host.UID != 0 || !ofSession(who.Host.Unit) {
			values = append(values, "uid:"+strconv.FormatUint(uint64(who.Host.UID), 10))
		}
		if who.Host.Unit != "" {
			values = append(values, "unit:"+who.Host.Unit)
		}
		return values
	}
	c := who.Container
	values := []string{"container", "container_id:" + c.ID}
	add := func(name, value string) {
		if value != "" {
			values = append(values, name+":"+value)
		}
	}
	add("runtime", c.Runtime)
	add("source", who.Source)
	if who.Source != logs.SourceUser {
		add("image_digest", c.ImageDigest) // that of a user's engine is the user's word
	}
	add("start", c.Assurance.Start)
	add("cgroup_owner", strconv.FormatUint(uint64(c.Assurance.CgroupOwner), 10))
	if c.LaunchDigest != nil && *c.LaunchDigest != (rpc.Digest{}) {
		add("launch_digest", c.LaunchDigest.String())
	}
	return append(values, power(who.Power)...)
}

// ofSession reports whether a unit is of a user's session. Whoever has one can execute a
// set-user-ID program with a connection to the agent open: then root's process, by its
// number, is the one that asked, and the user reads the answer.
func ofSession(unit string) bool {
	manager, is := strings.CutPrefix(unit, "user@")
	return is && manager != "0.service" || strings.HasPrefix(unit, "session-") && strings.HasSuffix(unit, ".scope")
}

// power are the selectors of classes. nil classes are not known, and have none.
func power(classes []string) (values []string) {
	switch {
	case classes == nil:
		return nil
	case len(classes) == 0:
		return []string{"power:none"}
	}
	for _, class := range slices.Compact(slices.Sorted(slices.Values(classes))) {
		if len(values) == maxPower {
			return append(values, "power:more")
		}
		values = append(values, "power:"+class)
	}
	return values
}
