package gate

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/cima-project/cima/daemon/daemontest"
)

// Unreported is true from before a process goes on without a decision until
// Missed has returned.
func TestUnreported(t *testing.T) {
	dir := overlay(t)
	report, ready := make(chan struct{}), make(chan struct{})
	r, err := HoldRoots(1<<20, Options{Deadline: time.Minute,
		Missed: func(*HeldExec, error) { <-report },
		Decide: func(context.Context, *HeldExec) error { <-ready; return errors.New("no") }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	if _, err := r.Add(dir); err != nil {
		t.Fatal(err)
	}
	if r.Unreported() {
		t.Error("no process went on, and one is unreported")
	}
	close(ready)
	if err := run(filepath.Join(dir, "program")); err != nil {
		t.Fatal(err)
	}
	if !r.Unreported() {
		t.Error("the process went on, and none is unreported")
	}
	close(report)
	daemontest.Eventually(t, "all are reported", func() bool { return !r.Unreported() })
}
