package gate

import (
	"context"
	"crypto/sha512"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cima-project/cima/daemon/daemontest"
)

// sharedWatch measures each exec whose file is not known, and caches digests of
// files that are older than minAge. An exec of a known file waits for
// meanwhile. Leases last a minute.
func sharedWatch(t *testing.T, dir string, minAge time.Duration, meanwhile func()) (r *Roots, known, decided *atomic.Int32) {
	t.Helper()
	known, decided = &atomic.Int32{}, &atomic.Int32{}
	want := sha512.Sum384(exiting(t, 0))
	ready := make(chan struct{})
	r, err := HoldRoots(64<<20, Options{Deadline: time.Minute, Missed: func(*HeldExec, error) {},
		Known: func(h *HeldExec) bool {
			<-ready
			digest, ok := r.Known(h)
			if !ok {
				return false
			}
			if digest != want {
				t.Errorf("known is %.8x", digest)
			}
			known.Add(1)
			meanwhile()
			return true
		},
		Decide: func(ctx context.Context, h *HeldExec) error {
			<-ready
			decided.Add(1)
			_, err := r.Measure(ctx, h)
			return err
		}})
	if err == nil {
		r.measurer.minAge, r.gate.leases.time = minAge, time.Minute
	}
	r.begins(t, err, ready, dir)
	return r, known, decided
}

// A file that is executed again while its lease is shared is known. Without a
// lease it is measured again.
func TestKnownWhileTheLeaseIsShared(t *testing.T) {
	dir := mountedOverlay(t)
	_, several := tiny(t, dir)
	r, known, decided := sharedWatch(t, dir, -time.Hour, func() {})
	several(50)
	if known.Load() == 0 || known.Load()+decided.Load() != 50 {
		t.Errorf("of 50, %d were known and %d measured", known.Load(), decided.Load())
	}
	k := &r.gate.leases
	k.mu.Lock()
	k.time = 0
	k.mu.Unlock()
	daemontest.Eventually(t, "no lease is left", func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		return len(k.shared)+len(k.held) == 0
	})
	before := decided.Load()
	several(1)
	if decided.Load() != before+1 {
		t.Error("it is known without a lease")
	}
}

// A file whose digest is not cached is never known.
func TestFreshIsNotKnown(t *testing.T) {
	dir := mountedOverlay(t)
	_, known, decided := sharedWatch(t, dir, time.Hour, func() {})
	_, several := tiny(t, dir)
	several(5)
	if known.Load() != 0 || decided.Load() != 5 {
		t.Errorf("of 5, %d were known and %d measured", known.Load(), decided.Load())
	}
}

// A writer waits until all execs of the known file are done, and the file is no
// longer known after the writer has changed it.
func TestWriterOfTheKnown(t *testing.T) {
	dir := mountedOverlay(t)
	file, several := tiny(t, dir)
	held, proceed := make(chan struct{}), make(chan struct{})
	var once sync.Once
	_, known, decided := sharedWatch(t, dir, -time.Hour, func() {
		once.Do(func() {
			close(held)
			<-proceed
		})
	})
	ended := make(chan struct{})
	go func() { // some may be refused: ETXTBSY
		defer close(ended)
		exec.Command("/bin/sh", "-c", `for i in $(seq 50); do "$0"; done`, file).Run()
	}()
	select {
	case <-held:
	case <-ended:
		t.Fatal("it is not known")
	}
	if f, err := openToWrite(file); err == nil {
		f.Close()
		t.Error("a program could write what was about to run")
	}
	close(proceed)
	<-ended
	daemontest.Eventually(t, "the lease ends with the execs", func() bool { // the kernel breaks it after 45 s
		f, err := openToWrite(file)
		if err != nil {
			return false
		}
		f.Write([]byte("more"))
		f.Close()
		return true
	})
	knownBefore, before := known.Load(), decided.Load()
	several(1)
	if known.Load() != knownBefore || decided.Load() != before+1 {
		t.Errorf("%d were known, %d measured after the change", known.Load()-knownBefore, decided.Load()-before)
	}
}
