package engines

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
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

	"github.com/cima-project/cima/daemon/launch"
)

// unavailable skips a test that needs what this machine lacks; in CI nothing
// may be lacking.
func unavailable(t *testing.T, reason string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("not available with CI=true: %s", reason)
	}
	t.Skipf("left out: %s", reason)
}

// aloneWithEngines keeps the other rooms' tests away from the engines
// meanwhile: a daemon under test sees all containers of the machine.
func aloneWithEngines(t *testing.T) {
	t.Helper()
	lock, err := os.OpenFile(filepath.Join(os.TempDir(), "cima-docker-test.lock"), os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lock.Close() })
}

// sleeper is a static program for the images, built once.
var sleeper = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "engines-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-trimpath", "-o", dir+"/sleeper", "./testdata/sleeper")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return os.ReadFile(dir + "/sleeper")
})

// rootTar is a root file system; content makes two of them differ.
func rootTar(t *testing.T, content string) []byte {
	t.Helper()
	program, err := sleeper()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range []struct {
		name string
		body []byte
	}{{"bin/sleeper", program}, {"bin/other", program}, {"content", []byte(content)}} {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o755, Size: int64(len(f.body))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// cli runs an engine's command line.
type cli struct {
	*testing.T
	name string
	args []string // before all others
	env  []string
}

func (c *cli) command(args ...string) *exec.Cmd {
	cmd := exec.Command(c.name, append(append([]string{}, c.args...), args...)...)
	cmd.Env = append(os.Environ(), c.env...)
	return cmd
}

func (c *cli) run(args ...string) string {
	c.Helper()
	var stderr bytes.Buffer
	cmd := c.command(args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		c.Fatalf("%s %s: %v: %s", c.name, strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

// images imports launch-test:1 and :2, which differ in a file.
func (c *cli) images() {
	c.Helper()
	for _, tag := range []string{"1", "2"} {
		cmd := c.command("import", "-", "launch-test:"+tag)
		cmd.Stdin = bytes.NewReader(rootTar(c.T, tag))
		if out, err := cmd.CombinedOutput(); err != nil {
			c.Fatalf("import: %v: %s", err, out)
		}
		c.Cleanup(func() { c.command("rmi", "-f", "launch-test:"+tag).Run() })
	}
}

// start creates and starts a container, and gives its record while it runs.
func (c *cli) start(store *launch.Store, options []string, command ...string) launch.Record {
	c.Helper()
	r, err := c.try(store, options, command...)
	if err != nil {
		c.Fatalf("%v: %v", options, err)
	}
	return r
}

// try is start for containers that this machine may have no right to run:
// their bundle stands for a moment all the same.
func (c *cli) try(store *launch.Store, options []string, command ...string) (launch.Record, error) {
	c.Helper()
	args := append([]string{"create", "--network", "none"}, options...)
	lines := strings.Fields(c.run(append(args, command...)...))
	id := lines[len(lines)-1]
	c.Cleanup(func() { c.command("rm", "-f", "-v", id).Run() })
	started := make(chan error, 1)
	go func() {
		out, err := c.command("start", id).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		started <- err
	}()
	var last launch.Record
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		all, err := store.List(context.Background())
		if err != nil {
			return launch.Record{}, err
		}
		if i := slices.IndexFunc(all, func(r launch.Record) bool { return r.ID == id && r.Err == nil }); i >= 0 {
			last = all[i]
		}
		if last.InitPID != 0 {
			return last, nil
		}
		select {
		case err := <-started:
			if err != nil && last.ID == "" {
				return launch.Record{}, err
			}
			if err != nil {
				return last, nil
			}
		default:
		}
	}
	return launch.Record{}, errors.New("no record within 30 s")
}

// digest is the launch digest as the daemon would have it.
func (c *cli) digest(store *launch.Store, r launch.Record) [48]byte {
	c.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	l, err := store.Measure(ctx, r)
	if err != nil {
		c.Fatal(err)
	}
	i, err := New(Options{}).Image(ctx, r)
	if err != nil {
		c.Fatal(err)
	}
	return digestOf(c.T, l, i)
}

// cgroup is the container's path as the kernel has it.
func (c *cli) cgroup(pid int) string {
	c.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		c.Fatal(err)
	}
	_, path, _ := strings.Cut(strings.SplitN(string(raw), "\n", 2)[0], ":")
	_, path, _ = strings.Cut(path, ":")
	return path
}

// declaredExactly checks that this path, and none beside it, is the record's.
func (c *cli) declaredExactly(store *launch.Store, r launch.Record) {
	c.Helper()
	path := strings.TrimSuffix(c.cgroup(r.InitPID), "/container")
	got, ok, err := store.Declared(context.Background(), path)
	if !ok || err != nil || got.ID != r.ID || got.UID != 0 || got.InitPID != r.InitPID || got.InitStart == 0 {
		c.Errorf("%s: %+v, %v, %v", path, got, ok, err)
	}
	for _, wrong := range []string{filepath.Dir(path), path + "/below", path + "x", "/x" + path, filepath.Join("/system.slice", filepath.Base(path)), strings.Replace(path, r.ID, id(1), 1)} {
		// The directory above may be that of another container.
		if got, ok, err := store.Declared(context.Background(), wrong); ok && got.ID == r.ID || err != nil {
			c.Errorf("%s: %s, %v, %v", wrong, got.ID, ok, err)
		}
	}
}

func digestOf(t *testing.T, l launch.Launch, i launch.Image) [48]byte {
	t.Helper()
	d, err := launch.Digest(l, i)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func powerOf(t *testing.T, s *launch.Store, r launch.Record) []string {
	t.Helper()
	power, err := s.Power(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return power
}

// id makes 64 hex digits of a number.
func id(n int) string { return fmt.Sprintf("%064x", n+0xa0000) }

// trustedDir is a directory whose path nobody else may write to: the directories
// that testing makes above may be anybody's.
func trustedDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
