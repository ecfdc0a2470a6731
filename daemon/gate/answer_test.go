package gate

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cima-project/cima/daemon/daemontest"
)

// Unreported is true from before a process goes on without a decision until
// Missed has returned.
func TestUnreported(t *testing.T) {
	dir := mountedOverlay(t)
	report, ready := make(chan struct{}), make(chan struct{})
	r, err := HoldRoots(1<<20, Options{Deadline: time.Minute,
		Missed: func(*HeldExec, error) { <-report },
		Decide: func(context.Context, *HeldExec) error { <-ready; return errors.New("no") }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	device, err := r.Add(dir)
	if err != nil {
		t.Fatal(err)
	}
	if r.Unreported(device) {
		t.Error("no process went on, and one is unreported")
	}
	close(ready)
	if err := run(filepath.Join(dir, "program")); err != nil {
		t.Fatal(err)
	}
	if !r.Unreported(device) {
		t.Error("the process went on, and none is unreported")
	}
	close(report)
	daemontest.Eventually(t, "all are reported", func() bool { return !r.Unreported(device) })
}

// What is missed of one container's processes, which are known to be its own, neither
// delays another's evidence nor takes the places of another's reports.
func TestUnreportedOfAnother(t *testing.T) {
	dir, other := mountedOverlay(t), mountedOverlay(t)
	report := make(chan struct{})
	var told missedList
	var own atomic.Uint64
	r, err := HoldRoots(1<<20, Options{Deadline: time.Minute,
		Missed: func(h *HeldExec, why error) { <-report; told.note(h, fmt.Errorf("%d: %w", h.Device(), why)) },
		Owns:   func(h *HeldExec) bool { return h.Device() == own.Load() },
		Decide: func(context.Context, *HeldExec) error { return ErrWritable }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	mine, err := r.Add(dir)
	theirs, err2 := r.Add(other)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	own.Store(mine)
	for range maxReportsCharged + 20 {
		if err := run(filepath.Join(dir, "program")); err != nil {
			t.Fatal(err)
		}
	}
	if !r.Unreported(mine) || r.Unreported(theirs) {
		t.Errorf("of mine: %t, of theirs: %t", r.Unreported(mine), r.Unreported(theirs))
	}
	soon, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := r.WaitReported(soon, theirs); err != nil {
		t.Error(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.WaitReported(ended, mine); !errors.Is(err, context.Canceled) {
		t.Errorf("with mine unreported: %v", err)
	}
	if err := run(filepath.Join(other, "program")); err != nil { // whose it is, nobody knows
		t.Fatal(err)
	}
	if !r.Unreported(theirs) {
		t.Error("one of a process that may be theirs is not unreported")
	}
	close(report)
	if err := r.WaitReported(t.Context(), theirs); err != nil || r.Unreported(theirs) {
		t.Error("not all was reported:", err)
	}
	if err := r.WaitReported(t.Context(), mine); err != nil {
		t.Error(err)
	}
	several, ofTheirs := 0, 0
	told.mu.Lock()
	defer told.mu.Unlock()
	for _, err := range told.all {
		if strings.HasPrefix(err.Error(), fmt.Sprint(theirs)+":") {
			ofTheirs++
		} else if errors.Is(err, errBusy) {
			several++
		}
	}
	if several == 0 || ofTheirs != 1 {
		t.Errorf("several at once were reported %d times, theirs %d times", several, ofTheirs)
	}
}
