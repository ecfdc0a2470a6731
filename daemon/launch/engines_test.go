package launch

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
	dir, err := os.MkdirTemp("", "launch-")
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
func (c *cli) start(store *Store, options []string, command ...string) Record {
	c.Helper()
	r, err := c.try(store, options, command...)
	if err != nil {
		c.Fatalf("%v: %v", options, err)
	}
	return r
}

// try is start for containers that this machine may have no right to run:
// their bundle stands for a moment all the same.
func (c *cli) try(store *Store, options []string, command ...string) (Record, error) {
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
	var last Record
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		all, err := store.List(context.Background())
		if err != nil {
			return Record{}, err
		}
		if i := slices.IndexFunc(all, func(r Record) bool { return r.ID == id && r.Err == nil }); i >= 0 {
			last = all[i]
		}
		if last.InitPID != 0 {
			return last, nil
		}
		select {
		case err := <-started:
			if err != nil && last.ID == "" {
				return Record{}, err
			}
			if err != nil {
				return last, nil
			}
		default:
		}
	}
	return Record{}, errors.New("no record within 30 s")
}

// digest is the launch digest as the daemon would have it.
func (c *cli) digest(store *Store, r Record) [48]byte {
	c.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	l, err := store.Measure(ctx, r)
	if err != nil {
		c.Fatal(err)
	}
	i, err := store.Image(ctx, r)
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
func (c *cli) declaredExactly(store *Store, r Record) {
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
