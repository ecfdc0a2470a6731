package policy

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/cima-project/cima/hw/verify/launches"
	"github.com/cima-project/cima/logs"
)

// measuredMembers are the members of what events measure, by operation
// (cima-evidence(7), Operations). Another name in a policy is refused, because it would
// match nothing and forbid nothing.
var measuredMembers = map[string][]string{
	logs.OpStart:   membersOf[logs.StartBody](),
	logs.OpPolicy:  membersOf[logs.PolicyBody](),
	logs.OpSeal:    membersOf[logs.SealBody](),
	logs.OpSystem:  membersOf[logs.SystemBody](),
	logs.OpPower:   membersOf[logs.PowerBody](),
	logs.OpLaunch:  launches.Members,
	logs.OpImage:   launches.ImageMembers,
	logs.OpMounted: membersOf[logs.MountedBody](),
	logs.OpExec:    membersOf[logs.ExecBody](),
	logs.OpExtend:  membersOf[logs.ExtendBody](),
	logs.OpMissed:  membersOf[logs.MissedBody](),
	logs.OpIMA:     membersOf[logs.IMABody](),
}

// nestedMembers are the members of a launch's members, where a pattern may name those one
// by one.
var nestedMembers = map[string][]string{"asked": launches.AskedMembers, "defaults": launches.DefaultsMembers}

// absent stands for all other members of an image: nothing is known of those.
const absent = "absent"

// membersOf are the names of a struct's members in JSON.
func membersOf[T any]() (names []string) {
	for f := range reflect.TypeFor[T]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}

func checkMembers(what string, match map[string]any, known []string) error {
	for name := range match {
		if !slices.Contains(known, name) {
			return fmt.Errorf("%s has no member %q: it must be one of %s", what, name, strings.Join(known, ", "))
		}
	}
	return nil
}

// checkLaunchMembers is checkMembers for a launch, and for asked and defaults in it.
func checkLaunchMembers(what string, match map[string]any) error {
	if err := checkMembers(what, match, launches.Members); err != nil {
		return err
	}
	for name, known := range nestedMembers {
		nested, ok := match[name].(map[string]any)
		if !ok && match[name] != nil {
			return fmt.Errorf("%s: %s must be a table of members", what, name)
		}
		if err := checkMembers(what+": "+name, nested, known); err != nil {
			return err
		}
	}
	return nil
}

// has reports whether an object has members of these values. Members that are empty
// are left out of what is measured, unless all are.
func has(body, want map[string]any) bool {
	for name, v := range want {
		want := asJSON(v)
		if got, ok := body[name]; ok && reflect.DeepEqual(got, want) || !ok && empty(want) && body[absent] == nil {
			continue
		}
		return false
	}
	return true
}

// launchHas is has for a launch: of asked and defaults, the members that are wanted are
// compared and no others.
func launchHas(body, want map[string]any) bool {
	for name, v := range want {
		nested, ok := v.(map[string]any)
		if nestedMembers[name] == nil || !ok {
			if !has(body, map[string]any{name: v}) {
				return false
			}
			continue
		}
		got, shown := body[name].(map[string]any)
		if !shown || !has(got, nested) {
			return false
		}
	}
	return true
}

// empty reports whether a member of this value would be left out. A number never is: 0 is
// not the same as absent.
func empty(v any) bool {
	switch v := v.(type) {
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return v == false || v == ""
}
