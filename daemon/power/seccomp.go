package power

import (
	"encoding/json"
	"slices"

	"github.com/cima-project/cima/daemon/launch"
)

// refusals are actions by which a call doesn't happen.
var refusals = []string{"SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP"}

// refusedCalls are those that both docker's and podman's default profiles refuse, and the
// capabilities with which these allow them: then the capability is what is announced.
var refusedCalls = map[string][]string{
	"acct":              {"CAP_SYS_PACCT"},
	"bpf":               {"CAP_SYS_ADMIN", "CAP_BPF"},
	"clock_settime":     {"CAP_SYS_TIME"},
	"create_module":     {"CAP_SYS_MODULE"},
	"delete_module":     {"CAP_SYS_MODULE"},
	"fanotify_init":     {"CAP_SYS_ADMIN"},
	"finit_module":      {"CAP_SYS_MODULE"},
	"init_module":       {"CAP_SYS_MODULE"},
	"ioperm":            {"CAP_SYS_RAWIO"},
	"iopl":              {"CAP_SYS_RAWIO"},
	"kexec_file_load":   nil,
	"kexec_load":        nil,
	"lookup_dcookie":    {"CAP_SYS_ADMIN"},
	"nfsservctl":        nil,
	"open_by_handle_at": {"CAP_DAC_READ_SEARCH"},
	"perf_event_open":   {"CAP_SYS_ADMIN", "CAP_PERFMON"},
	"quotactl":          {"CAP_SYS_ADMIN"},
	"quotactl_fd":       {"CAP_SYS_ADMIN"},
	"settimeofday":      {"CAP_SYS_TIME"},
	"stime":             {"CAP_SYS_TIME"},
	"swapoff":           nil,
	"swapon":            nil,
	"uselib":            nil,
	"userfaultfd":       nil,
	"vhangup":           {"CAP_SYS_TTY_CONFIG"},
	"vm86":              nil,
	"vm86old":           nil,
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
		beyond := func(name string) bool {
			with, ok := refusedCalls[name]
			return ok && !slices.ContainsFunc(with, func(capability string) bool { return slices.Contains(c.Process.Capabilities.Bounding, capability) })
		}
		if !slices.Contains(refusals, rule.Action) && slices.ContainsFunc(rule.Names, beyond) {
			out = append(out, classConfined+"seccomp")
		}
	}
	return out
}
