package gate

import (
	"bytes"
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// overlay mounts one with a program in its lower layer.
func overlay(t *testing.T) string {
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

// seen is what was measured, in order.
type seen struct {
	mu   sync.Mutex
	all  []sight
	held []*HeldExec // that were decided on
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

// watch measures every exec of an overlay; a file that can't be measured is
// let go.
func watch(t *testing.T, dirs ...string) (*Roots, *seen) {
	t.Helper()
	s := &seen{}
	var r *Roots
	ready := make(chan struct{})
	r, err := HoldRoots(64<<20, Options{
		Deadline: 5 * time.Second, Missed: func(*HeldExec, error) {},
		Decide: func(ctx context.Context, h *HeldExec) error {
			<-ready
			content, err := r.Measure(ctx, h)
			s.mu.Lock()
			defer s.mu.Unlock()
			s.held = append(s.held, h)
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

// sha384 is zero where there is none.
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

// What is executed from the root file system is measured, as it is then, and
// nothing of the host's is.
func TestRootsMeasure(t *testing.T) {
	dir := overlay(t)
	_, s := watch(t, dir)
	file := filepath.Join(dir, "program")
	for range 2 {
		if err := run(file); err != nil {
			t.Fatal(err)
		}
	}
	if got, n := s.last(); n != 2 || got.err != nil || got.digest != digestOf(t, file) || filepath.Base(got.path) != "program" {
		t.Fatalf("%d seen, the last %+v", n, got)
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString("more")
	f.Close()
	run(file)
	if got, n := s.last(); n != 3 || got.err != nil || got.digest != digestOf(t, file) {
		t.Fatalf("changed: %d seen, the last %+v", n, got)
	}
	if err := exec.Command("/bin/true").Run(); err != nil {
		t.Fatal(err)
	}
	if _, n := s.last(); n != 3 {
		t.Error("a program of the host's was held")
	}
}

// A writer that leaves no trace in size and times can't have its bytes pass
// for those that were measured: while it can write there is no digest.
func TestMappedWriter(t *testing.T) {
	dir := overlay(t)
	_, s := watch(t, dir)
	good, evil := []byte("#!/bin/sh\nexit 0 #good\n"), []byte("#!/bin/sh\nexit 7 #evil\n")
	file := filepath.Join(dir, "script")
	if err := os.WriteFile(file, good, 0o755); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	m, err := unix.Mmap(int(f.Fd()), 0, len(good), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	copy(m, good) // the page is dirty, the times are set
	if err := os.Chtimes(file, old, old); err != nil {
		t.Fatal(err)
	}
	time.Sleep(minAge + 100*time.Millisecond)
	run(file) // ETXTBSY; were it hashed now, it would be remembered as good
	if got, _ := s.last(); !errors.Is(got.err, ErrWritable) {
		t.Errorf("with a writable mapping: %+v", got)
	}
	before, _ := os.Stat(file)
	copy(m, evil)
	unix.Munmap(m)
	after, _ := os.Stat(file)
	if before.Size() != after.Size() || !before.ModTime().Equal(after.ModTime()) ||
		before.Sys().(*syscall.Stat_t).Ctim != after.Sys().(*syscall.Stat_t).Ctim {
		t.Log("the kernel left a trace: the attack is weaker here")
	}
	run(file)
	if got, _ := s.last(); got.err != nil || got.digest != sha512.Sum384(evil) {
		t.Errorf("what ran is not what was measured: %+v", got)
	}
}

// A program whose writer waits for the moment between hash and exec.
func TestWriterBetweenHashAndExec(t *testing.T) {
	dir := overlay(t)
	needRoot(t)
	file := filepath.Join(dir, "program")
	var r *Roots
	var wrote atomic.Bool
	hashed, ready := make(chan [48]byte, 1), make(chan struct{})
	r, err := HoldRoots(64<<20, Options{Deadline: 5 * time.Second, Missed: func(*HeldExec, error) {},
		Decide: func(ctx context.Context, h *HeldExec) error {
			<-ready
			content, err := r.Measure(ctx, h)
			go func() {
				f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
				if err == nil {
					f.WriteString("evil")
					f.Close()
					wrote.Store(true)
				}
			}()
			time.Sleep(50 * time.Millisecond) // it is at its open by now
			if wrote.Load() {
				t.Error("the file was written after it was hashed, before it ran")
			}
			hashed <- sha384(content)
			return err
		}})
	if err != nil {
		t.Fatal(err)
	}
	close(ready)
	t.Cleanup(r.Close)
	want := digestOf(t, file)
	if _, err := r.Add(dir); err != nil {
		t.Fatal(err)
	}
	err = run(file)
	if got := <-hashed; got != want {
		t.Error("another digest")
	}
	t.Logf("the exec ended with %v", err)
}

// Where a mark would hold others, or not all, there is none.
func TestUnmarkable(t *testing.T) {
	dir := overlay(t)
	r, s := watch(t)
	for name, path := range map[string]string{"a directory of the host": t.TempDir(), "a directory within": filepath.Join(dir, "d")} {
		os.MkdirAll(path, 0o755)
		if _, err := r.Add(path); !errors.Is(err, ErrUnmarkable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	second := t.TempDir()
	if err := unix.Mount(dir, second, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Add(dir); !errors.Is(err, ErrUnmarkable) {
		t.Errorf("mounted twice: %v", err)
	}
	unix.Unmount(second, 0)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("/", link); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Add(link); !errors.Is(err, ErrUnmarkable) {
		t.Errorf("a link to the host's root: %v", err)
	}
	exec.Command("/bin/true").Run()
	if _, n := s.last(); n != 0 {
		t.Error("somebody was held")
	}
}

func TestTooLarge(t *testing.T) {
	dir := overlay(t)
	_, s := watch(t, dir)
	file := filepath.Join(dir, "large")
	if err := os.WriteFile(file, bytes.Repeat([]byte("#"), 65<<20), 0o755); err != nil {
		t.Fatal(err)
	}
	run(file)
	if got, _ := s.last(); !errors.Is(got.err, ErrTooLarge) {
		t.Errorf("%+v", got)
	}
}

func TestMeasureProcess(t *testing.T) {
	needRoot(t)
	r, _ := watch(t)
	path, digest, err := r.MeasureProcess(t.Context(), os.Getpid())
	self, _ := os.Executable()
	if err != nil || path != self || digest != digestOf(t, self) {
		t.Errorf("%s %x %v", path, digest, err)
	}
}
