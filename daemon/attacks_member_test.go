package daemon

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// members are those of the specification that runtimes may act on, and that nobody
// looked at once. A quantity is shown, and in no digest.
var members = []struct {
	row, path string
	value     any
	classes   string
	limit     bool
}{
	{"D4: devices of the network", "linux.netDevices", map[string]any{"nosuch": map[string]any{"name": "eth7"}}, "setting:linux.netDevices", false},
	{"D4: propagation of the root", "linux.rootfsPropagation", "shared", "setting:linux.rootfsPropagation", false},
	{"D4: propagation of the root, usual", "linux.rootfsPropagation", "rslave", "", false},
	{"D4: personality", "linux.personality", map[string]any{"domain": "LINUX", "flags": []string{"ADDR_NO_RANDOMIZE"}}, "setting:linux.personality", false},
	{"D4: personality, 32 bits", "linux.personality", map[string]any{"domain": "LINUX32"}, "", false},
	{"D4: time", "linux.timeOffsets", map[string]any{"monotonic": map[string]any{"secs": 1000}}, "", false},
	{"D4: policy of memory", "linux.memoryPolicy", map[string]any{"mode": "MPOL_BIND", "nodes": "0"}, "", true},
	{"D4: caches", "linux.intelRdt", map[string]any{"closID": "guaranteed"}, "", true},
	{"D4: label of mounts", "linux.mountLabel", "system_u:object_r:my_file_t:s0", "confined:selinux", false},
	{"D4: scheduler", "process.scheduler", map[string]any{"policy": "SCHED_FIFO", "priority": 99}, "setting:process.scheduler", false},
	{"D4: priority of disks", "process.ioPriority", map[string]any{"class": "IOPRIO_CLASS_RT", "priority": 0}, "", true},
	{"D4: who is killed for memory", "process.oomScoreAdj", 500, "", true},
	{"D4: unknown", "linux.frobnicate", map[string]any{"deep": uint64(1<<53 + 1)}, "unknown:linux.frobnicate", false},
	{"D4: unknown, beyond 53 bits", "linux.frobnicate", uint64(1<<53 + 1), "unknown:linux.frobnicate", false},
	{"D4: a name that Go programs read as linux", "Linux", map[string]any{"maskedPaths": []string{}}, "unknown:Linux", false},
	{"D4: hook", "hooks", map[string]any{"createRuntime": []any{map[string]any{"path": "/bin/true"}}}, "hook:createRuntime", false},
	{"D4: hook after the end", "hooks", map[string]any{"poststop": []any{map[string]any{"path": "/bin/true"}}}, "hook:poststop", false},
	{"D4: keys of cgroups", "linux.resources.unified", map[string]any{"x.y": "1"}, "setting:linux.resources.unified", false},
	{"D4: network of cgroups", "linux.resources.network", map[string]any{"classID": 7}, "setting:linux.resources.network", false},
	{"D4: sysctl of the host's", "linux.sysctl", map[string]any{"kernel.shm_rmid_forced": "0"}, "", false},
}

// A member of the specification changes the launch, or its limits, and gives power where
// a list says so. Podman's runtime here changes the specification as a plug-in of an
// engine may.
func TestMembers(t *testing.T) {
	s := newScene(t)
	run := func(t *testing.T, path string, value any) ran {
		r, err := s.do(t, "podman --runtime "+changing(t, path, value)+" run")
		t.Log(err) // whether runc takes it does not matter: the launch is logged before
		return r
	}
	base, err := s.do(t, "podman run")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range members {
		t.Run(m.row, func(t *testing.T) {
			r := run(t, m.path, m.value)
			r.wantClasses(t, m.classes)
			switch changed, shown := r.digest != base.digest, len(r.launch.Limits) > len(base.launch.Limits); {
			case m.limit && (changed || !shown):
				t.Errorf("%s is a quantity: in the digest: %t, shown: %t", m.path, changed, shown)
			case !m.limit && !changed:
				t.Errorf("%s changes nothing: %s", m.path, difference(r.launch, base.launch))
			}
		})
	}
	t.Run("D4: two numbers that floats hold as one", func(t *testing.T) {
		if one, other := run(t, "linux.frobnicate", uint64(1<<53)), run(t, "linux.frobnicate", uint64(1<<53+1)); one.digest == other.digest {
			t.Error("one digest")
		}
	})
}

// changing makes a runtime that sets a member of the specification, and then is runc.
func changing(t *testing.T, path string, value any) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	runc, err := exec.LookPath("runc")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	runtime := filepath.Join(dir, "runc")
	script := fmt.Sprintf("#!/bin/sh\nexec %s %s %s %s %s \"$@\"\n", self, changeCommand, runc, path, filepath.Join(dir, "value"))
	for name, text := range map[string][]byte{runtime: []byte(script), filepath.Join(dir, "value"): mustJSON(t, value)} {
		if err := os.WriteFile(name, text, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return runtime
}

// changeCommand has this program be that runtime: RUNC MEMBER FILE RUNC'S-ARGUMENTS.
const changeCommand = "change"

func change(args []string) error {
	runc, member, file, args := args[0], args[1], args[2], args[3:]
	if at := slices.Index(args, "--bundle"); at >= 0 && slices.Contains(args, "create") {
		config := filepath.Join(args[at+1], "config.json")
		var spec map[string]any
		var value any
		if err := readNumbers(config, &spec); err != nil {
			return err
		}
		if err := readNumbers(file, &value); err != nil {
			return err
		}
		set(spec, member, value)
		text, err := json.Marshal(spec)
		if err != nil {
			return err
		}
		if err := os.WriteFile(config, text, 0o600); err != nil {
			return err
		}
	}
	return syscall.Exec(runc, append([]string{runc}, args...), os.Environ())
}

// readNumbers reads JSON and keeps its numbers as they are.
func readNumbers(file string, into any) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return d.Decode(into)
}

// set sets the member at a path.
func set(spec map[string]any, path string, value any) {
	names := strings.Split(path, ".")
	for _, name := range names[:len(names)-1] {
		if spec[name] == nil {
			spec[name] = map[string]any{}
		}
		spec = spec[name].(map[string]any)
	}
	spec[names[len(names)-1]] = value
}
