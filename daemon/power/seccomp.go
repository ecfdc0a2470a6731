package power

import (
	"encoding/json"
	"slices"

	"github.com/cima-project/cima/daemon/launch"
)

// refusals are actions by which a call doesn't happen.
var refusals = []string{"SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP"}

// refusedCalls are those that both docker's and podman's default profiles refuse.
var refusedCalls = []string{
	"acct", "bpf", "clock_settime", "create_module", "delete_module", "fanotify_init", "finit_module", "init_module",
	"ioperm", "iopl", "kexec_file_load", "kexec_load", "lookup_dcookie", "nfsservctl", "open_by_handle_at",
	"perf_event_open", "quotactl", "quotactl_fd", "settimeofday", "stime", "swapoff", "swapon", "uselib", "userfaultfd",
	"vhangup", "vm86", "vm86old",
}

// seccompClasses compares a filter with a baseline. The digest of the whole filter is in
// the launch.
func seccompClasses(c *launch.Spec) []string {
	if len(c.Linux.Seccomp) == 0 || string(c.Linux.Seccomp) == "null" {
		return []string{classUnconfined + "seccomp"}
	}
	var profile struct {
		DefaultAction string `json:"defaultAction"`
		ListenerPath  string `json:"listenerPath"`
		Syscalls      []struct {
			Names  []string `json:"names"`
			Action string   `json:"action"`
		} `json:"syscalls"`
	}
	if json.Unmarshal(c.Linux.Seccomp, &profile) != nil || !slices.Contains(refusals, profile.DefaultAction) {
		return []string{classUnconfined + "seccomp"}
	}
	var out []string
	if profile.ListenerPath != "" {
		out = append(out, classConfined+"seccomp") // another program decides
	}
	for _, rule := range profile.Syscalls {
		beyond := func(name string) bool { return slices.Contains(refusedCalls, name) }
		if !slices.Contains(refusals, rule.Action) && slices.ContainsFunc(rule.Names, beyond) {
			out = append(out, classConfined+"seccomp")
		}
	}
	return out
}
