package engines

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/packaging/test/engine"
)

// skipUnavailable skips a test that needs something that this machine lacks; in
// CI nothing may be lacking.
func skipUnavailable(t *testing.T, reason string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("not available with CI=true: %s", reason)
	}
	t.Skipf("left out: %s", reason)
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

// cli runs the command line of an engine.
type cli struct {
	*testing.T
	*engine.Engine
}

// withEngine skips the test if there is no such engine, and makes launch-test:1
// and :2, which differ in a file.
func withEngine(t *testing.T, start func() (*engine.Engine, error)) *cli {
	t.Helper()
	e, err := start()
	if err != nil {
		skipUnavailable(t, err.Error())
	}
	program, err := sleeper()
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range []string{"1", "2"} {
		image := engine.NewImage().Text("/bin/sleeper", program).Text("/bin/other", program).Text("/content", []byte(tag))
		if err := e.Import(t.Context(), "launch-test:"+tag, image); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { e.Command(context.Background(), "rmi", "-f", "launch-test:"+tag).Run() })
	}
	return &cli{t, e}
}

func (c *cli) command(args ...string) *exec.Cmd { return c.Command(context.Background(), args...) }

func (c *cli) run(args ...string) string {
	c.Helper()
	out, err := c.Do(context.Background(), "", args...)
	if err != nil {
		c.Fatal(err)
	}
	return out
}

// start creates and starts a container, and returns its record while it runs.
func (c *cli) start(store *records.Store, options []string, command ...string) records.Record {
	c.Helper()
	r, err := c.try(store, options, command...)
	if err != nil {
		c.Fatalf("%v: %v", options, err)
	}
	return r
}

// try is start for containers that this machine may not be able to run: their
// bundle exists for a moment all the same.
func (c *cli) try(store *records.Store, options []string, command ...string) (records.Record, error) {
	c.Helper()
	return c.startOn("none", store, options, command...)
}

// startOn is try with a network.
func (c *cli) startOn(network string, store *records.Store, options []string, command ...string) (records.Record, error) {
	c.Helper()
	args := append([]string{"create", "--network", network}, options...)
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
	var last records.Record
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		all, err := store.List(context.Background())
		if err != nil {
			return records.Record{}, err
		}
		if i := slices.IndexFunc(all, func(r records.Record) bool { return r.ID == id && r.Err == nil }); i >= 0 {
			last = all[i]
		}
		if last.InitPID != 0 {
			return last, nil
		}
		select {
		case err := <-started:
			if err != nil && last.ID == "" {
				return records.Record{}, err
			}
			if err != nil {
				return last, nil
			}
		default:
		}
	}
	return records.Record{}, errors.New("no record within a minute")
}

// digest is the launch digest that the daemon would log.
func (c *cli) digest(store *records.Store, r records.Record) [48]byte {
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

// cgroup is the path that the kernel has for the container.
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

// declaredExactly checks that this path, and no other one, is the record's.
func (c *cli) declaredExactly(store *records.Store, r records.Record) {
	c.Helper()
	path := strings.TrimSuffix(c.cgroup(r.InitPID), "/container")
	got, ok, err := store.Declared(context.Background(), "", path)
	if !ok || err != nil || got.ID != r.ID || got.UID != 0 || got.InitPID != r.InitPID || got.InitStart == 0 {
		c.Errorf("%s: %+v, %v, %v", path, got, ok, err)
	}
	for _, wrong := range []string{filepath.Dir(path), path + "/below", path + "x", "/x" + path, filepath.Join("/system.slice", filepath.Base(path)), strings.Replace(path, r.ID, id(1), 1)} {
		// the parent may be another container's directory
		if got, ok, err := store.Declared(context.Background(), "", wrong); ok && got.ID == r.ID || err != nil {
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

func powerOf(t *testing.T, s *records.Store, r records.Record) []string {
	t.Helper()
	power, err := s.Power(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return power
}

// id makes 64 hex digits of a number.
func id(n int) string { return fmt.Sprintf("%064x", n+0xa0000) }

// trustedDir is a directory whose path only its owner can change: the parents
// of testing's own directories may be writable for others.
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
