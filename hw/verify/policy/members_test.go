package policy

import (
	"fmt"
	"slices"
	"testing"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/logs"
)

// A policy can name each member of the measured objects, and no other.
func TestPoliciesNameMembers(t *testing.T) {
	accepts := func(operation, member string) bool {
		_, err := Parse(fmt.Appendf(nil, "[[forbidden]]\noperation = %q\nmatch = { %s = 1 }\n", operation, member))
		return err == nil
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
		"launch": {membersOf[launch.Launch](), measuredMembers[logs.OpLaunch]},
		"image":  {membersOf[launch.Image](), measuredMembers[logs.OpImage]},
		"mount":  {membersOf[launch.Mount](), mountMembers},
	} {
		want, got := slices.Sorted(slices.Values(lists[0])), slices.Sorted(slices.Values(lists[1]))
		if !slices.Equal(want, got) {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
}
