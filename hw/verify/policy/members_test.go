package policy

import (
	"fmt"
	"slices"
	"testing"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/hw/verify/launches"
	"github.com/cima-project/cima/logs"
)

// A policy can name each member of the measured objects, and no other.
func TestPoliciesNameMembers(t *testing.T) {
	accepts := func(operation, member string) bool {
		value := "1"
		if operation == logs.OpLaunch && nestedMembers[member] != nil {
			value = "{}"
		}
		_, err := Parse(fmt.Appendf(nil, "[[forbidden]]\noperation = %q\nmatch = { %s = %s }\n", operation, member, value))
		return err == nil
	}
	for part, names := range nestedMembers {
		for _, name := range names {
			if !accepts(logs.OpLaunch, part+"."+name) {
				t.Errorf("%s: %q is refused", part, name)
			}
		}
		if accepts(logs.OpLaunch, part+".colour") {
			t.Errorf("%s: an unknown member is accepted", part)
		}
	}
	for _, operation := range operations {
		if len(measuredMembers[operation]) == 0 {
			t.Errorf("%s: no members", operation)
		}
		for _, name := range measuredMembers[operation] {
			if !accepts(operation, name) {
				t.Errorf("%s: %q is refused", operation, name)
			}
		}
		if accepts(operation, "colour") {
			t.Errorf("%s: an unknown member is accepted", operation)
		}
	}
}

// daemon/launch declares the bodies of launch and image, and no verifier links
// it.
func TestMembersOfLaunches(t *testing.T) {
	for what, lists := range map[string][2][]string{
		"launch":   {membersOf[launch.Launch](), launches.Members},
		"asked":    {membersOf[launch.Asked](), launches.AskedMembers},
		"defaults": {membersOf[launch.Defaults](), launches.DefaultsMembers},
		"mount":    {membersOf[launch.Mount](), launches.MountMembers},
		"image":    {membersOf[launch.Image](), launches.ImageMembers},
	} {
		want, got := slices.Sorted(slices.Values(lists[0])), slices.Sorted(slices.Values(lists[1]))
		if !slices.Equal(want, got) {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
}
