package gate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// The test's program is also a guard, a holder that is stopped and killed, and
// whatever else has to be a process of its own.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case GuardCommand:
			os.Exit(Guard(os.Args[2:]))
		case "hold":
			os.Exit(holder(os.Args[2]))
		case "true":
			os.Exit(0)
		case "wait":
			time.Sleep(2 * time.Second)
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

// program copies this program, so that a mark on it holds nobody else.
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

// errRefused is what run makes of the shell's word for EPERM.
var errRefused = errors.New("refused")

// run executes a program. A shell does, for the
// thread of a Go program that forks can't be stopped before the exec is
// through: one that holds itself hangs with the next garbage collection.
func run(path string, args ...string) error {
	c := exec.Command("/bin/sh", append([]string{"-c", `"$0" true "$@"`, path}, args...)...)
	c.Dir = filepath.Dir(path)
	err := c.Run()
	if c.ProcessState.ExitCode() == 126 {
		err = errRefused
	}
	return err
}

// missedList is what Missed was told.
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

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within 10 s: %s", what)
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

// Who executes the runtime is held until it was decided, and nobody else is.
func TestHeldUntilDecided(t *testing.T) {
	dir := t.TempDir()
	runtime, other := program(t, filepath.Join(dir, "runtime")), program(t, filepath.Join(dir, "other"))
	release, held := make(chan struct{}), make(chan string, 4)
	hold(t, []string{runtime}, Options{Deadline: time.Minute, Decide: func(_ context.Context, h *HeldExec) error {
		uid, ok := h.UID()
		held <- fmt.Sprint(h.Path(), uid, ok, h.Names(dir, "nothing"), h.Names("/", "an-id"), h.Names("/", "an"))
		<-release
		return nil
	}})
	ended := make(chan error)
	go func() { ended <- run(runtime, "an-id") }()
	if got, want := <-held, fmt.Sprint(runtime, 0, true, true, true, false); got != want {
		t.Errorf("held: %s, want %s", got, want)
	}
	if err := run(other); err != nil {
		t.Error("another program meanwhile:", err)
	}
	select {
	case err := <-ended:
		t.Fatal("it went on undecided:", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestDeadline(t *testing.T) {
	const deadline = 200 * time.Millisecond
	for _, refuse := range []bool{false, true} {
		t.Run(fmt.Sprint("refuse ", refuse), func(t *testing.T) {
			runtime, stuck := program(t, filepath.Join(t.TempDir(), "runtime")), make(chan struct{})
			var missed missedList
			hold(t, []string{runtime}, Options{Deadline: deadline, Refuse: refuse, Missed: missed.note,
				Decide: func(context.Context, *HeldExec) error { <-stuck; return nil }})
			defer close(stuck)
			// More than there are workers: all of these are stuck.
			var all sync.WaitGroup
			for range workers + 4 {
				all.Go(func() {
					err := run(runtime)
					if errors.Is(err, errRefused) != refuse || err != nil && !refuse {
						t.Errorf("it ended with %v", err)
					}
				})
			}
			all.Wait()
			eventually(t, "it is told", func() bool { return missed.is(ErrDeadline) })
		})
	}
}

func TestUndecided(t *testing.T) {
	why := errors.New("some reason")
	for _, refuse := range []bool{false, true} {
		runtime := program(t, filepath.Join(t.TempDir(), "runtime"))
		var missed missedList
		hold(t, []string{runtime}, Options{Deadline: time.Minute, Refuse: refuse, Missed: missed.note,
			Decide: func(context.Context, *HeldExec) error { return why }})
		if err := run(runtime); errors.Is(err, errRefused) != refuse || err != nil && !refuse {
			t.Errorf("refuse %t: it ended with %v", refuse, err)
		}
		eventually(t, "it is told", func() bool { return missed.is(why) })
	}
}

// No more of one user are held than there is room for, and nobody waits for
// others: neither do those of another user while these keep all workers busy
// that one can, nor the host's root while a container's does.
func TestTooMany(t *testing.T) {
	for name, attr := range map[string]*syscall.SysProcAttr{
		"another user":       {Credential: &syscall.Credential{Uid: 12345}},
		"a container's root": {Cloneflags: syscall.CLONE_NEWPID},
	} {
		t.Run(name, func(t *testing.T) { tooMany(t, attr) })
	}
}

func tooMany(t *testing.T, attr *syscall.SysProcAttr) {
	runtime, stuck := program(t, filepath.Join(openDir(t), "runtime")), make(chan struct{})
	var missed missedList
	hold(t, []string{runtime}, Options{Deadline: time.Minute, Missed: missed.note,
		Decide: func(_ context.Context, h *HeldExec) error {
			if h.payer != (payer{}) {
				<-stuck
			}
			return nil
		}})
	release := sync.OnceFunc(func() { close(stuck) })
	defer release()
	var all sync.WaitGroup
	for range maxHeldPerPayer + 20 {
		all.Go(func() {
			c := exec.Command("/bin/sh", "-c", `"$0" true`, runtime)
			c.SysProcAttr = attr
			if err := c.Run(); err != nil {
				t.Error(err)
			}
		})
	}
	eventually(t, "it is told", func() bool { return missed.is(errBusy) })
	for range 10 {
		if err := run(runtime); err != nil {
			t.Errorf("another user's: %v", err)
		}
	}
	if missed.is(ErrDeadline) {
		t.Error("a deadline passed")
	}
	release()
	all.Wait()
}

// openDir is one that other users can enter.
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

// Each comes to its turn, none has more than its share of places and workers,
// and nobody is lost.
func TestShares(t *testing.T) {
	s := newFairQueue()
	a, b := payer{user: 1}, payer{device: 1}
	for range maxHeldPerPayer {
		if !s.put(&HeldExec{payer: a}) {
			t.Fatal("no place")
		}
	}
	if s.put(&HeldExec{payer: a}) {
		t.Error("one more than its share")
	}
	if !s.put(&HeldExec{payer: b}) {
		t.Error("no place for another")
	}
	var got []payer
	var out []*HeldExec
	for range workersPerPayer + 1 {
		h := s.next()
		out, got = append(out, h), append(got, h.payer)
	}
	if got[1] != b {
		t.Errorf("the other came to its turn as %v", got)
	}
	if len(s.turns) != 0 {
		t.Error("one has more workers than its share")
	}
	s.close()
	for n := 0; len(out) > 0; n++ {
		s.done(out[0])
		if out = out[1:]; len(s.turns) > 0 {
			out = append(out, s.next())
		}
	}
	if s.next() != nil || s.held != 0 || len(s.byPayer) != 0 {
		t.Errorf("%d are held still, %d have a share", s.held, len(s.byPayer))
	}
	for i := range maxHeld + 1 {
		if ok := s.put(&HeldExec{payer: payer{device: uint64(i)}}); ok != (i < maxHeld) {
			t.Errorf("%d are held: a place for one more: %t", i, ok)
		}
	}
}

// A package that replaces a runtime doesn't get around the gate: neither does
// one that comes later.
func TestReplaced(t *testing.T) {
	dir := t.TempDir()
	link, runtime, late := filepath.Join(dir, "link"), filepath.Join(dir, "d", "runtime"), filepath.Join(dir, "late")
	if err := errors.Join(os.Mkdir(filepath.Dir(runtime), 0o755), os.Symlink("d/runtime", link)); err != nil {
		t.Fatal(err)
	}
	program(t, runtime)
	held := make(chan string, 1)
	r := hold(t, []string{link, late}, Options{Deadline: time.Minute, Decide: func(_ context.Context, h *HeldExec) error {
		held <- h.Path()
		return nil
	}})
	wantHeld := func(path string) {
		t.Helper()
		if err := run(path); err != nil {
			t.Fatal(err)
		}
		select {
		case <-held:
		case <-time.After(time.Second):
			t.Errorf("%s was not held", path)
		}
	}
	wantHeld(link)
	old := inode(t, runtime)
	if err := os.Rename(program(t, runtime+".new"), runtime); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new file is marked", func() bool { return r.inode(link) == inode(t, runtime) })
	if old == inode(t, runtime) {
		t.Fatal("the file was not replaced")
	}
	wantHeld(runtime)
	program(t, late)
	eventually(t, "what came is marked", func() bool { return len(r.Marked()) == 2 })
	wantHeld(late)
	os.Remove(late)
	eventually(t, "what went is not", func() bool { return len(r.Marked()) == 1 })
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

func (r *Runtimes) inode(path string) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.marked[path]; m != nil {
		return m.ino
	}
	return 0
}

const holdersDeadline = time.Second

// holder is a process that holds a runtime's callers until they wait for
// nothing but the deadline.
func holder(runtime string) int {
	_, err := HoldRuntimes([]string{runtime}, Options{
		Deadline: holdersDeadline, Guard: "/proc/self/exe",
		Missed: func(_ *HeldExec, why error) {
			if errors.Is(why, errStopped) {
				fmt.Println("stopped")
			}
		},
		Decide: func(ctx context.Context, h *HeldExec) error { fmt.Println("held"); <-ctx.Done(); return ctx.Err() },
	})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ready")
	select {}
}

// A holder that is stopped, or killed, holds nobody beyond the deadline.
func TestStoppedAndKilled(t *testing.T) {
	needRoot(t)
	for _, sig := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} {
		t.Run(sig.String(), func(t *testing.T) {
			runtime := program(t, filepath.Join(t.TempDir(), "runtime"))
			h := exec.Command("/proc/self/exe", "hold", runtime)
			out, err := h.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := h.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { h.Process.Kill(); h.Wait() })
			lines := make(chan string, 100)
			go func() {
				for {
					var line string
					if _, err := fmt.Fscanln(out, &line); err != nil {
						return
					}
					lines <- line
				}
			}()
			if line := <-lines; line != "ready" {
				t.Fatal(line)
			}
			var all sync.WaitGroup
			begin := func() {
				if err := run(runtime); err != nil {
					t.Error(err)
				}
			}
			all.Go(begin) // is taken
			if line := <-lines; line != "held" {
				t.Fatal(line)
			}
			h.Process.Signal(sig)
			for range 10 { // stay in the queue
				all.Go(begin)
			}
			all.Wait()
			if sig == syscall.SIGSTOP {
				h.Process.Signal(syscall.SIGCONT)
				for line := ""; line != "stopped"; { // the gap is told
					select {
					case line = <-lines:
					case <-time.After(10 * time.Second):
						t.Fatal("that it was stopped is not told")
					}
				}
				all.Go(begin)
				all.Wait()
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{32, 0, 0, 0, 3, 0, 24, 0, 0, 0, 4, 0, 0, 0, 0, 0, 7, 0, 0, 0, 99, 0, 0, 0, 4, 0, 8, 0, 8, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			e, rest, err := parse(b)
			if err != nil {
				return
			}
			if len(rest) >= len(b) || e.pidfd < -1 {
				t.Fatalf("%+v, %d of %d bytes are left", e, len(rest), len(b))
			}
			b = rest
		}
	})
}

func TestParse(t *testing.T) {
	b := []byte{32, 0, 0, 0, 3, 0, 24, 0, 0, 0, 4, 0, 0, 0, 0, 0, 7, 0, 0, 0, 99, 0, 0, 0, 4, 0, 8, 0, 8, 0, 0, 0, 1}
	e, rest, err := parse(b)
	if want := (event{mask: unix.FAN_OPEN_EXEC_PERM, fd: 7, pid: 99, pidfd: 8}); err != nil || e != want || len(rest) != 1 {
		t.Errorf("%+v, %d left, %v", e, len(rest), err)
	}
	for n := range 32 {
		if _, _, err := parse(b[:n]); err == nil {
			t.Errorf("%d of 32 bytes are an event", n)
		}
	}
}
