package gate

import (
	"bytes"
	"context"
	"crypto/sha512"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/hashing"
	"github.com/cima-project/cima/daemon/overlay"
)

// BenchmarkHash reads a program that was not measured before.
func BenchmarkHash(b *testing.B) {
	path := filepath.Join(b.TempDir(), "program")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o755); err != nil {
		b.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	m := &measurer{maxSize: 1 << 30, hashing: hashing.New()}
	b.SetBytes(1 << 20)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.hash(context.Background(), int(f.Fd()), 1); err != nil {
			b.Fatal(err)
		}
	}
}

// looking runs a function when it is asked whether there is time left.
type looking struct {
	context.Context
	do func()
}

func (l looking) Err() error {
	l.do()
	return l.Context.Err()
}

// A file whose times change while it is hashed has no digest: its identity from
// before may not be that of the bytes that were read.
func TestChangedWhileHashed(t *testing.T) {
	dir := mountedOverlay(t)
	file, _ := tiny(t, dir)
	measured := make(chan error, 1)
	var r *Roots
	ready := make(chan struct{})
	r, err := HoldRoots(64<<20, Options{Deadline: time.Minute, Missed: func(*HeldExec, error) {},
		Decide: func(ctx context.Context, h *HeldExec) error {
			<-ready
			_, err := r.Measure(looking{ctx, func() {
				if err := os.Chmod(file, 0o711); err != nil {
					t.Error(err)
				}
			}}, h)
			measured <- err
			return err
		}})
	r.begins(t, err, ready, dir)
	if err := run(file); err != nil {
		t.Fatal(err)
	}
	if err := <-measured; !errors.Is(err, ErrWritable) {
		t.Errorf("measured: %v", err)
	}
}

// A device number can be reused for another file system.
func TestKnownDigestsOfAnotherMount(t *testing.T) {
	m := measurer{cache: make(map[overlay.File]cachedDigest), layers: make(map[uint64]overlayMount)}
	m.store(overlay.File{Device: 1, Inode: 1}, cachedDigest{})
	m.store(overlay.File{Device: 2, Inode: 1}, cachedDigest{})
	m.setLayers(1, overlayMount{})
	if _, ok := m.cache[overlay.File{Device: 1, Inode: 1}]; ok || len(m.cache) != 1 {
		t.Errorf("known still: %v", m.cache)
	}
	for i := range uint64(2 * maxCached) {
		m.store(overlay.File{Device: 3, Inode: i}, cachedDigest{})
	}
	if len(m.cache) > maxCached {
		t.Errorf("%d digests are remembered", len(m.cache))
	}
}

// A digest is cached only for a file that has been left alone for a while: a
// second change within one tick of the kernel's clock is not visible.
func TestFreshFileIsNotRemembered(t *testing.T) {
	dir := mountedOverlay(t)
	r, _ := watch(t, dir)
	file := filepath.Join(dir, "fresh")
	if err := os.WriteFile(file, exiting(t, 0), 0o755); err != nil {
		t.Fatal(err)
	}
	known := func() int {
		r.measurer.mu.Lock()
		defer r.measurer.mu.Unlock()
		return len(r.measurer.cache)
	}
	for want, age := range []time.Duration{time.Hour, -time.Hour} {
		r.measurer.setMinAge(age)
		if err := run(file); err != nil {
			t.Fatal(err)
		}
		if got := known(); got != want {
			t.Errorf("of a file that must be %v old, %d digests are remembered", age, got)
		}
	}
}

// A file is swapped while its exec is held, by its name or its directory's
// name: the opened file runs, and its digest was measured.
func TestSwappedWhileHeld(t *testing.T) {
	dir := mountedOverlay(t)
	needRoot(t)
	sub := filepath.Join(dir, "sub")
	good, evil := exiting(t, 10), exiting(t, 20)
	for _, d := range []string{sub, sub + ".evil"} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(sub, "program")
	if err := errors.Join(os.WriteFile(file, good, 0o755), os.WriteFile(filepath.Join(sub+".evil", "program"), evil, 0o755)); err != nil {
		t.Fatal(err)
	}
	var r *Roots
	ready, digests := make(chan struct{}), make(chan [48]byte, 1)
	r, err := HoldRoots(64<<20, Options{Deadline: time.Minute, Missed: func(_ *HeldExec, why error) { t.Log("missed:", why) },
		Decide: func(ctx context.Context, h *HeldExec) error {
			<-ready
			content, err := r.Measure(ctx, h)
			if err := errors.Join(os.Rename(sub, sub+".good"), os.Rename(sub+".evil", sub)); err != nil {
				t.Error(err)
			}
			digests <- sha384(content)
			return err
		}})
	r.begins(t, err, ready, dir)
	c := exec.Command("/bin/sh", "-c", `exec "$0"`, file)
	c.Run()
	if got := <-digests; c.ProcessState.ExitCode() != 10 || got != sha512.Sum384(good) {
		t.Errorf("it ended with %d, measured was %.8x", c.ProcessState.ExitCode(), got)
	}
}

// An exec from the root file system is measured, with the file as it is then,
// and no exec of the host's files is.
func TestRootsMeasure(t *testing.T) {
	dir := mountedOverlay(t)
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

// A writer that leaves no trace in size and times can't pass its bytes for the
// measured ones: while it can write there is no digest.
func TestMappedWriter(t *testing.T) {
	dir := mountedOverlay(t)
	r, s := watch(t, dir)
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
	r.measurer.setMinAge(-time.Hour)
	run(file) // ETXTBSY; if the file were hashed now, the cache would have the good digest
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

func TestTooLarge(t *testing.T) {
	dir := mountedOverlay(t)
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

func (m *measurer) setMinAge(age time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.minAge = age
}
