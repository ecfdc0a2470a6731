package daemon

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/hw/verify/policy"
)

// Policies can name each member of what is measured, and none that isn't.
func TestPoliciesNameMembers(t *testing.T) {
	accepts := func(operation, member string) bool {
		_, err := policy.Parse(fmt.Appendf(nil, "[[forbidden]]\noperation = %q\nmatch = { %s = 1 }\n", operation, member))
		return err == nil
	}
	for operation, measured := range map[string]any{
		"start": startEvent{}, "policy": policyEvent{}, "seal": sealEvent{}, "power": powerEvent{},
		"launch": launch.Launch{}, "image": launch.Image{}, "exec": execEvent{}, "extend": extendEvent{},
	} {
		for _, name := range memberNames(measured) {
			if !accepts(operation, name) {
				t.Errorf("policies can't name %q of %s", name, operation)
			}
		}
		if accepts(operation, "colour") {
			t.Errorf("policies can name what %s has not", operation)
		}
	}
	for _, name := range memberNames(launch.Mount{}) {
		if name == "destination" {
			continue
		}
		if _, err := policy.Parse(fmt.Appendf(nil, "[container.launch]\nmounts = [{ destination = \"/\", %s = 1 }]", name)); err != nil {
			t.Errorf("policies can't name %q of a mount: %v", name, err)
		}
	}
}

func memberNames(v any) (names []string) {
	for f := range reflect.TypeOf(v).Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}
