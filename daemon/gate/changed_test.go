package gate

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"
)

// looking does something when it is asked whether there is time left.
type looking struct {
	context.Context
	do func()
}

func (l looking) Err() error {
	l.do()
	return l.Context.Err()
}

// A file whose times change while it is hashed has no digest: what was asked of
// them before says nothing of what was read.
func TestChangedWhileHashed(t *testing.T) {
	dir := overlay(t)
	file, _ := tiny(t, dir)
	measured := make(chan error, 1)
	var r *Roots
	ready := make(chan struct{})
	r, err := HoldRoots(64<<20, Options{Deadline: 5 * time.Second, Missed: func(*HeldExec, error) {},
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
