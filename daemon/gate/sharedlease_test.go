package gate

import (
	"context"
	"crypto/sha512"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// tiny puts a program there that ends at once, and runs it several times in a
// row.
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

// standingWatch measures what is executed, and asks for what is known first;
// then has who is known wait for meanwhile.
func standingWatch(t *testing.T, dir string, meanwhile func()) (r *Roots, known, decided *atomic.Int32) {
	t.Helper()
	known, decided = &atomic.Int32{}, &atomic.Int32{}
	want := sha512.Sum384(exiting(t, 0))
	ready := make(chan struct{})
	r, err := HoldRoots(64<<20, Options{Deadline: 5 * time.Second, Missed: func(*HeldExec, error) {},
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
	r.begins(t, err, ready, dir)
	return r, known, decided
}

// What is executed again soon is known; after a while without, it is measured
// again.
func TestKnownWhileTheLeaseStands(t *testing.T) {
	dir := overlay(t)
	_, several := tiny(t, dir)
	time.Sleep(minAge + 100*time.Millisecond)
	_, known, decided := standingWatch(t, dir, func() {})
	several(50)
	if known.Load() == 0 || known.Load()+decided.Load() != 50 {
		t.Errorf("of 50, %d were known and %d measured", known.Load(), decided.Load())
	}
	time.Sleep(leaseTime * 2)
	before := decided.Load()
	several(1)
	if decided.Load() != before+1 {
		t.Error("it is known without a lease")
	}
}

// A file whose digest may not be remembered is never known.
func TestFreshIsNotKnown(t *testing.T) {
	dir := overlay(t)
	_, known, decided := standingWatch(t, dir, func() {})
	begin := time.Now()
	_, several := tiny(t, dir)
	several(5)
	if time.Since(begin) < minAge && (known.Load() != 0 || decided.Load() != 5) {
		t.Errorf("of 5, %d were known and %d measured", known.Load(), decided.Load())
	}
}

// Who wants to write waits until those are through who were known, and what it
// changes isn't known any more.
func TestWriterOfTheKnown(t *testing.T) {
	dir := overlay(t)
	file, several := tiny(t, dir)
	time.Sleep(minAge + 100*time.Millisecond)
	held := make(chan struct{})
	var once sync.Once
	var opened atomic.Bool
	_, known, decided := standingWatch(t, dir, func() {
		once.Do(func() {
			close(held)
			time.Sleep(leaseTime / 2)
			if opened.Load() {
				t.Error("somebody could write what was about to run")
			}
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
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
	opened.Store(true)
	if err != nil {
		t.Fatal(err)
	}
	f.Write([]byte("more"))
	f.Close()
	<-ended
	knownBefore, before := known.Load(), decided.Load()
	several(1)
	if known.Load() != knownBefore || decided.Load() != before+1 {
		t.Errorf("%d were known, %d measured after the change", known.Load()-knownBefore, decided.Load()-before)
	}
}
