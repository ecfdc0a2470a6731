package gate

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"
)

// Unreported is true from before a process goes on undecided until Missed has
// returned.
func TestUnreported(t *testing.T) {
	dir := overlay(t)
	told, ready := make(chan struct{}), make(chan struct{})
	r, err := HoldRoots(1<<20, Options{Deadline: time.Minute,
		Missed: func(*HeldExec, error) { <-told },
		Decide: func(context.Context, *HeldExec) error { <-ready; return errors.New("no") }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	if _, err := r.Add(dir); err != nil {
		t.Fatal(err)
	}
	if r.Unreported() {
		t.Error("nobody went on, and somebody is untold")
	}
	close(ready)
	if err := run(filepath.Join(dir, "program")); err != nil {
		t.Fatal(err)
	}
	if !r.Unreported() {
		t.Error("it went on, and nobody is untold")
	}
	close(told)
	eventually(t, "all are told", func() bool { return !r.Unreported() })
}
