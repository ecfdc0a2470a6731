package engine

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// TestMain lets this program be one that runs in namespaces of its own.
func TestMain(m *testing.M) {
	if os.Args[0] != initName && (len(os.Args) < 3 || os.Args[1] != "alone") {
		goleak.VerifyTestMain(m)
		return
	}
	if err := Alone(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	if err := inside[os.Args[2]](); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(4)
	}
	os.Exit(0)
}

// inside is what runs in the namespaces.
var inside = map[string]func() error{
	"docker": func() error { return inEngine(Docker) },
	"podman": func() error { return inEngine(Podman) },
	"look": func() error {
		processes, _ := filepath.Glob("/proc/[0-9]*")
		run, _ := filepath.Glob("/run/*")
		lib, _ := filepath.Glob("/var/lib/*")
		fmt.Println(len(processes), run, lib)
		return nil
	},
	"exit": func() error { os.Exit(7); return nil },
}

// inEngine leaves a container running.
func inEngine(start func() (*Engine, error)) error {
	e, err := start()
	if err != nil {
		return err
	}
	ctx := context.Background()
	if err := e.Import(ctx, "engine-test:1", NewImage().File("/bin/busybox", "/bin/busybox").Link("/bin/sh", "busybox")); err != nil {
		return err
	}
	if _, err := e.Do(ctx, "", "run", "-d", "--network", "none", "engine-test:1", "/bin/busybox", "sleep", "1000"); err != nil {
		return err
	}
	if _, err := e.Do(ctx, "", "run", "engine-test:none"); err == nil || !strings.HasPrefix(err.Error(), e.Name+" run engine-test:none: exit status 125: ") {
		return fmt.Errorf("an image that doesn't exist: %w", err)
	}
	containers, err := e.Do(ctx, "", "ps", "-q")
	if err != nil {
		return err
	}
	out, err := e.Do(ctx, "input", "run", "--rm", "-i", "--network", "none", "engine-test:1", "/bin/sh", "-c", "busybox cat; echo; busybox pwd")
	fmt.Printf("%d %q\n", len(strings.Fields(containers)), out)
	return err
}

// alone runs this program in namespaces of its own, and returns what it printed.
func alone(t *testing.T, what string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("left out: -short")
	}
	if os.Geteuid() != 0 {
		t.Skip("left out: namespaces need root")
	}
	if err := unshareable(); err != nil {
		t.Skip("left out:", err)
	}
	var errText strings.Builder
	c := exec.Command("/proc/self/exe", "alone", what)
	c.Stderr = &errText
	out, err := c.Output()
	if strings.Contains(errText.String(), "on this machine") {
		t.Skip("left out:", errText.String())
	}
	if err != nil || errText.Len() > 0 {
		t.Fatalf("%v: %s", err, errText.String())
	}
	group := cgroupPrefix + fmt.Sprint(c.Process.Pid)
	for _, pattern := range []string{"/sys/fs/cgroup/" + group, "/sys/fs/cgroup/*/" + group, copiesOf(group)} {
		if left, _ := filepath.Glob(pattern); len(left) > 0 {
			t.Errorf("left: %s", left)
		}
	}
	return string(out)
}

// Nothing of the machine is seen: the processes are the first one and the program.
func TestAlone(t *testing.T) {
	if got, want := alone(t, "look"), "2 [/run/cima-test /run/lock] []\n"; got != want {
		t.Errorf("in namespaces: %s, want %s", got, want)
	}
}

func TestExitCode(t *testing.T) {
	alone(t, "look")
	c := exec.Command("/proc/self/exe", "alone", "exit")
	if c.Run(); c.ProcessState.ExitCode() != 7 {
		t.Errorf("exit code %d, the program's is 7", c.ProcessState.ExitCode())
	}
}

// Each engine has one container, though another test runs others, and its cgroups,
// which no process may be in then, are gone when the program ends with the container
// running.
func TestEnginesOfOnesOwn(t *testing.T) {
	for _, name := range []string{"docker", "podman"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, want := alone(t, name), `1 "input\n/"`+"\n"; got != want {
				t.Errorf("printed %s, want %s", got, want)
			}
		})
	}
}
