package policy

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/cima-project/cima/logs"
)

// measuredMembers are the members of what events measure, by operation
// (cima-evidence(7), Operations). Another name in a policy is refused, because it would
// match nothing and forbid nothing.
var measuredMembers = map[string][]string{
	logs.OpStart:  membersOf[logs.StartBody](),
	logs.OpPolicy: membersOf[logs.PolicyBody](),
	logs.OpSeal:   membersOf[logs.SealBody](),
	logs.OpSystem: membersOf[logs.SystemBody](),
	logs.OpPower:  membersOf[logs.PowerBody](),
	logs.OpLaunch: {"source", "cgroup_owner", "arguments", "environment", "working_directory", "terminal", "user",
		"capabilities", "no_new_privileges", "seccomp", "apparmor", "selinux", "namespaces", "mounts", "all_devices",
		"devices", "device_rules", "sysctls", "root_read_only", "masked_paths", "read_only_paths", "hooks", "labels", "annotations",
		"entrypoint", whole},
	logs.OpMounted: membersOf[logs.MountedBody](),
	logs.OpImage:   {"reference", "digest", "manifest", "layers", absent},
	logs.OpExec:    membersOf[logs.ExecBody](),
	logs.OpExtend:  membersOf[logs.ExtendBody](),
	logs.OpMissed:  membersOf[logs.MissedBody](),
	logs.OpIMA:     membersOf[logs.IMABody](),
}

// mountMembers are the members of a mount in a launch.
var mountMembers = []string{"destination", "type", "options", "source", "volume", "anonymous", "engine", "hidden"}

// Members that stand for all others: nothing is known of those.
const (
	whole  = "whole"  // of a launch
	absent = "absent" // of an image
)

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

// has reports whether an object has members of these values. Members that are empty
// are left out of what is measured, unless all are.
func has(body, want map[string]any) bool {
	for name, v := range want {
		want := asJSON(v)
		if got, ok := body[name]; ok && reflect.DeepEqual(got, want) || !ok && empty(want) && body[whole] == nil && body[absent] == nil {
			continue
		}
		return false
	}
	return true
}

func empty(v any) bool {
	switch v := v.(type) {
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return v == false || v == "" || v == 0.0
}
