package gate

import (
	"context"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// The test's program is also a guard, a holder that is stopped and killed, and
// other programs that must be processes of their own.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case GuardCommand:
			os.Exit(Guard(os.Args[2:]))
		case "hold":
			os.Exit(holder(os.Args[2]))
		case "true":
			os.Exit(0)
		case "exec":
			os.Exit(execs(os.Args[2:]))
		case "fork":
			exec.Command(os.Args[2], os.Args[3:]...).Run()
			os.Exit(0)
		case "wait": // for the end of its standard input
			io.Copy(io.Discard, os.Stdin)
			os.Exit(0)
		}
	}
	goleak.VerifyTestMain(m)
}

func needRoot(t *testing.T) {
	t.Helper()
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT, 0)
	if err != nil {
		t.Skipf("left out: fanotify_init: %v", err)
	}
	unix.Close(fd)
}

// program copies this program, so that a mark on the copy holds no other
// process.
func program(t *testing.T, at string) string {
	t.Helper()
	from, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := os.OpenFile(at, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(to, from)
	if err := errors.Join(err, to.Close()); err != nil {
		t.Fatal(err)
	}
	return at
}

// errRefused is run's error for a program that the kernel refused to execute.
var errRefused = errors.New("refused")

// run executes a program through a shell: the thread of a Go program that forks
// can't be stopped before the exec is done, so a program that holds itself
// would hang at the next garbage collection.
func run(path string, args ...string) error {
	c := exec.Command("/bin/sh", append([]string{"-c", `"$0" true "$@"`, path}, args...)...)
	c.Dir = filepath.Dir(path)
	err := c.Run()
	if c.ProcessState.ExitCode() == 126 {
		err = errRefused
	}
	return err
}

// missedList records the calls of Missed.
type missedList struct {
	mu  sync.Mutex
	all []error
}

func (m *missedList) note(_ *HeldExec, why error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all = append(m.all, why)
}

func (m *missedList) is(want error) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(m.all, func(err error) bool { return errors.Is(err, want) })
}

func hold(t *testing.T, paths []string, o Options) *Runtimes {
	t.Helper()
	needRoot(t)
	if o.Missed == nil {
		o.Missed = func(_ *HeldExec, why error) { t.Errorf("missed: %v", why) }
	}
	r, err := HoldRuntimes(paths, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sync.OnceFunc(r.Close))
	return r
}

// openDir is a directory that other users can enter.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "gate")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// exiting returns an ELF program that exits with this code, and does nothing
// else.
func exiting(t *testing.T, code byte) []byte {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		t.Skip("left out: the program is made for amd64")
	}
	machine := []byte{0xb8, 60, 0, 0, 0, 0xbf, code, 0, 0, 0, 0x0f, 0x05} // mov eax, SYS_exit; mov edi, code; syscall
	const base, header, segment = 0x400000, 64, 56
	le := binary.LittleEndian
	b := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 9)...)
	b = le.AppendUint16(b, 2)  // ET_EXEC
	b = le.AppendUint16(b, 62) // EM_X86_64
	b = le.AppendUint32(b, 1)
	b = le.AppendUint64(b, base+header+segment) // entry
	b = le.AppendUint64(b, header)              // program headers
	b = le.AppendUint64(b, 0)
	b = le.AppendUint32(b, 0)
	for _, v := range []uint16{header, segment, 1, 0, 0, 0} {
		b = le.AppendUint16(b, v)
	}
	size := uint64(header + segment + len(machine))
	b = le.AppendUint32(b, 1) // PT_LOAD
	b = le.AppendUint32(b, 5) // R, X
	for _, v := range []uint64{0, base, base, size, size, 0x1000} {
		b = le.AppendUint64(b, v)
	}
	return append(b, machine...)
}

// waits starts a command that waits for the end of its standard input, and
// returns a function that ends it.
func waits(t *testing.T, c *exec.Cmd) (end func()) {
	t.Helper()
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return func() {
		in.Close()
		if err := c.Wait(); err != nil {
			t.Error(err)
		}
	}
}

// openToWrite opens a file for writing, and does not wait for leases to end.
func openToWrite(file string) (*os.File, error) {
	return os.OpenFile(file, os.O_WRONLY|os.O_APPEND|unix.O_NONBLOCK, 0)
}

// begins lets decisions begin, which need r, and adds the root file system dir.
func (r *Roots) begins(t *testing.T, err error, ready chan struct{}, dir string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	close(ready)
	t.Cleanup(r.Close)
	if _, err := r.Add(dir); err != nil {
		t.Fatal(err)
	}
}

// mountedOverlay mounts an overlay with a program in its lower layer.
func mountedOverlay(t *testing.T) string {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	for _, d := range []string{"base", "base/lower", "base/upper", "base/work", "merged"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program(t, filepath.Join(dir, "base/lower/program"))
	merged := filepath.Join(dir, "merged")
	options := fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", filepath.Join(dir, "base"))
	if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
		t.Skip("left out: no overlay can be mounted here:", err)
	}
	t.Cleanup(func() { unix.Unmount(merged, unix.MNT_DETACH) })
	return merged
}

// seen is the measured executions, in order.
type seen struct {
	mu  sync.Mutex
	all []sight
}

type sight struct {
	path   string
	device uint64
	digest [48]byte // zero: none
	verity string
	err    error
}

func (s *seen) last() (sight, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) == 0 {
		return sight{}, 0
	}
	return s.all[len(s.all)-1], len(s.all)
}

// watch measures each exec of an overlay. A file that can't be measured runs
// all the same.
func watch(t *testing.T, dirs ...string) (*Roots, *seen) {
	t.Helper()
	s := &seen{}
	var r *Roots
	ready := make(chan struct{})
	r, err := HoldRoots(64<<20, Options{
		Deadline: time.Minute, Missed: func(*HeldExec, error) {},
		Decide: func(ctx context.Context, h *HeldExec) error {
			<-ready
			content, err := r.Measure(ctx, h)
			s.mu.Lock()
			defer s.mu.Unlock()
			s.all = append(s.all, sight{h.Path(), h.Device(), sha384(content), content.Verity, err})
			return err
		},
	})
	close(ready)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	for _, dir := range dirs {
		if _, err := r.Add(dir); err != nil {
			t.Fatal(err)
		}
	}
	return r, s
}

// sha384 is zero if the file has no digest.
func sha384(c Content) (digest [48]byte) {
	if c.SHA384 != nil {
		digest = *c.SHA384
	}
	return digest
}

func digestOf(t *testing.T, path string) [48]byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return sha512.Sum384(b)
}

// tiny writes a program that ends at once to dir, and returns a function that
// runs it n times.
func tiny(t *testing.T, dir string) (file string, several func(n int)) {
	t.Helper()
	file = filepath.Join(dir, "tiny")
	if err := os.WriteFile(file, exiting(t, 0), 0o755); err != nil {
		t.Fatal(err)
	}
	return file, func(n int) {
		t.Helper()
		if out, err := exec.Command("/bin/sh", "-c", `n=$1; while [ $n -gt 0 ]; do "$0" || exit 9; n=$((n-1)); done`, file, fmt.Sprint(n)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
}
