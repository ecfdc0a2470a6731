package gate

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestParseCommand(t *testing.T) {
	for line, want := range map[string]Command{
		// docker's shim and podman, as they call runc and crun.
		"runc --root /run/docker/runtime-runc/moby --log /l/log.json --log-format json --systemd-cgroup create --bundle /b --pid-file /b/init.pid ID": {"create", []string{"--bundle", "/b", "--pid-file", "/b/init.pid", "ID"}, "/run/docker/runtime-runc/moby", false},
		"/usr/bin/runc --root /run/docker/runtime-runc/moby start ID":                                                                                 {"start", []string{"ID"}, "/run/docker/runtime-runc/moby", false},
		"/usr/bin/crun --root=/run/crun --rootless=auto --cgroup-manager systemd start ID":                                                            {"start", []string{"ID"}, "/run/crun", false},
		"runc start ID":                    {"start", []string{"ID"}, "", false},
		"runc -debug -root /r state start": {"state", []string{"start"}, "/r", false},
		"/proc/self/exe init":              {"init", []string{}, "", false},
		"runc --root start":                {},
		"runc --new start ID":              {Strange: true},
		"runc --new=start state":           {"state", []string{}, "", false},
		"runc --":                          {Strange: true},
		"runc -":                           {Strange: true},
		"runc --version":                   {},
		"runc":                             {},
		"":                                 {},
	} {
		if got := parseCommand(strings.Fields(line)); got.Name != want.Name || !slices.Equal(got.Arguments, want.Arguments) || got.Root != want.Root || got.Strange != want.Strange {
			t.Errorf("%s: %+v, want %+v", line, got, want)
		}
	}
	if c := (Command{Name: "start", Arguments: []string{"abc"}}); !c.Names("abc") || c.Names("ab") || c.Names("start") {
		t.Errorf("%+v names another", c)
	}
}

// What a runtime is told besides the bundle is known to change nothing of the container, or
// it is strange.
func TestStrangeCommand(t *testing.T) {
	for line, want := range map[string]bool{
		"runc create --bundle /b --console-socket /s --pid-file /p --preserve-fds 3 ID":  false,
		"runc create -b /b --pid-file=/p --pidfd-socket /q ID":                           false,
		"crun --systemd-cgroup --root=/r --cgroup-manager systemd create --bundle /b ID": false,
		"runc run -d --keep --no-subreaper --bundle /b ID":                               false,
		"runc create --bundle --no-pivot ID":                                             false, // a name of a directory
		"runc create --bundle /b --no-pivot ID":                                          true,
		"runc create -no-pivot --bundle /b ID":                                           true,
		"runc create --no-pivot=true --bundle /b ID":                                     true,
		"runc create --bundle /b --no-new-keyring ID":                                    true,
		"runc run --no-new-keyring --bundle /b ID":                                       true,
		"crun create --bundle /b ID --no-pivot":                                          true, // crun takes options behind the id
		"crun create --bundle /b --no-piv ID":                                            true, // and parts of their names
		"crun create --bundle /b --config /c.json ID":                                    true,
		"crun create --bundle /b -f /c.json ID":                                          true,
		"runc create --bundle /b -- ID":                                                  true,
		"runc --new=1 create --bundle /b ID":                                             true,
		"runc restore --image-path /i --bundle /b ID":                                    true,
		"runc delete --force ID":                                                         false,
		"runc exec --cap CAP_SYS_ADMIN ID sh":                                            false, // it makes no container
	} {
		if got := parseCommand(strings.Fields(line)).Strange; got != want {
			t.Errorf("%s: strange %t, must be %t", line, got, want)
		}
	}
}

func TestKeepsIn(t *testing.T) {
	for _, test := range []struct {
		root, dir string
		want      bool
	}{
		{"/run/docker/runtime-runc/moby", "/run/docker/runtime-runc/moby/ID", true},
		{"/run/docker/runtime-runc/moby/", "/run/docker/runtime-runc/moby/ID", true},
		{"/run/docker/runtime-runc/moby", "/run/containerd/runc/default/ID", false},
		{"", "/run/runc/ID", true},
		{"", "/run/crun/ID", true},
		{"", "/run/containerd/runc/default/ID", false},
		{"", "", false},
	} {
		if got := (Command{Root: test.root}).KeepsIn(test.dir); got != test.want {
			t.Errorf("%+v: %t", test, got)
		}
	}
}

func FuzzParseCommand(f *testing.F) {
	f.Add("runc\x00--root\x00/r\x00start\x00ID")
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Split(line, "\x00")
		c := parseCommand(args)
		if c.Name == "" && len(c.Arguments) > 0 || len(c.Arguments) >= len(args) || c.Name != "" && !slices.Contains(args[1:], c.Name) {
			t.Errorf("%q: %+v", args, c)
		}
	})
}

// commands holds a runtime, and returns what it was told to do at each exec.
func commands(t *testing.T, runtime string) func() []string {
	t.Helper()
	var mu sync.Mutex
	var all []string
	hold(t, []string{runtime}, Options{Deadline: time.Minute, Decide: func(_ context.Context, h *HeldExec) error {
		c := h.Command()
		mu.Lock()
		defer mu.Unlock()
		all = append(all, fmt.Sprintf("%s %q", c.Name, c.Arguments))
		return nil
	}})
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(all)
	}
}

// execs makes the test's program one that executes a runtime without fork, beside
// other threads, as wrappers of runtimes do.
func execs(args []string) int {
	for range 4 {
		go syscall.Pause()
	}
	time.Sleep(10 * time.Millisecond)
	fmt.Fprintln(os.Stderr, syscall.Exec(args[0], args, nil))
	return 1
}

// The arguments are read of a shell's child (fork), of a Go program's (vfork, with its
// parent's memory), and of a Go program that goes on as the runtime.
func TestCommandOfHeld(t *testing.T) {
	dir := t.TempDir()
	runtime := program(t, filepath.Join(dir, "runtime"))
	got := commands(t, runtime)
	for _, c := range [][]string{
		{"/bin/sh", "-c", `"$0" --root /r true an-id; true`, runtime},
		{"/bin/sh", "-c", `exec "$0" --root /r true an-id`, runtime},
		{program(t, filepath.Join(dir, "wrapper")), "exec", runtime, "--root", "/r", "true", "an-id"},
		{filepath.Join(dir, "wrapper"), "fork", runtime, "--root", "/r", "true", "an-id"},
	} {
		before := len(got())
		// The exit code is not looked at: "--root" is no test's program.
		exec.Command(c[0], c[1:]...).Run()
		if all := got()[before:]; len(all) != 1 || all[0] != `true ["an-id"]` {
			t.Errorf("%q: %q", c, all)
		}
	}
}

// What is beyond a bound is not understood, and is not cut off.
func TestCommandIsBounded(t *testing.T) {
	runtime := program(t, filepath.Join(t.TempDir(), "runtime"))
	got := commands(t, runtime)
	many, long := strings.Repeat("a ", maxArguments-2), strings.Repeat("x", maxArgumentBytes-len(runtime)-len("true"))
	for _, c := range []struct {
		args  []string
		known bool
	}{
		{append([]string{"true"}, strings.Fields(many)...), true},
		{append([]string{"true", "b"}, strings.Fields(many)...), false},
		{[]string{"true", long}, true},
		{[]string{"true", long + "x"}, false},
		{[]string{"true", "", "\xff"}, true},
	} {
		before := len(got())
		if err := run(runtime, c.args[1:]...); err != nil {
			t.Fatal(err)
		}
		want := ` []`
		if c.known {
			want = fmt.Sprintf("true %q", c.args[1:])
		}
		if all := got()[before:]; len(all) != 1 || all[0] != want {
			t.Errorf("%d arguments: %.100q", len(c.args), all)
		}
	}
}
