package policy

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/cima-project/cima/logs"
)

// measuredMembers are what events of an operation measure (cima-evidence(7)):
// another name in a policy would match nothing, and forbid nothing.
var measuredMembers = map[string][]string{
	logs.OpStart:  {"version", "executable", "agent_key", "boot_id"},
	logs.OpPolicy: {"sha384"},
	logs.OpSeal:   {"engines", "running"},
	logs.OpSystem: {"path", "sha384", "argv"},
	logs.OpPower:  {"classes"},
	logs.OpLaunch: {"source", "cgroup_owner", "arguments", "environment", "working_directory", "terminal", "user",
		"capabilities", "no_new_privileges", "seccomp", "apparmor", "selinux", "namespaces", "mounts", "all_devices",
		"devices", "device_rules", "sysctls", "root_read_only", "masked_paths", "read_only_paths", "hooks", "labels", "annotations",
		"entrypoint", whole},
	logs.OpImage:  {"reference", "digest", "manifest", "layers", absent},
	logs.OpExec:   {"path", "sha384", "verity", "late", "writable", "missed", "digest"},
	logs.OpExtend: {"domain", "operation", "content"},
	logs.OpMissed: {"what", "why", "count"},
	logs.OpIMA:    {"from", "count", "sha384"},
}

// mountMembers are a launch's mounts'.
var mountMembers = []string{"destination", "type", "options", "source", "volume", "anonymous", "engine", "hidden"}

// Members that stand for all others: nothing is known of those.
const (
	whole  = "whole"  // of a launch
	absent = "absent" // of an image
)

func checkMembers(what string, match map[string]any, known []string) error {
	for name := range match {
		if !slices.Contains(known, name) {
			return fmt.Errorf("%s has no member %q; there are %s", what, name, strings.Join(known, ", "))
		}
	}
	return nil
}

// has says whether an object has members of these values. Members that are empty
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
