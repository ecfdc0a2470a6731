package sim

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/cima-project/cima/hw"
)

// Operations that a Fault can meet.
const (
	OpQuote     = hw.OpQuote
	OpRegisters = hw.OpRegisters
	OpExtend    = hw.OpExtend
)

// place is the path that this package's errors name.
const place = "simulated TD"

// Fault is a failure of the hardware that tests inject into the calls of one
// operation. To callers it looks as the kernel's interfaces document failures.
type Fault struct {
	Op    string        `json:"op"`             // OpQuote, OpRegisters, OpExtend
	Skip  int           `json:"skip,omitzero"`  // how many calls pass before it
	Times int           `json:"times,omitzero"` // how many calls meet it; 0: all
	Delay time.Duration `json:"delay,omitzero"` // nanoseconds before anything happens
	Errno syscall.Errno `json:"errno,omitzero"` // the call fails with it
	After bool          `json:"after,omitzero"` // an extend happens, then the call fails or hangs
	Empty bool          `json:"empty,omitzero"` // a quote has no bytes: hw.ErrMalformed
	Hang  bool          `json:"hang,omitzero"`  // no answer until faults are set anew
}

func (f Fault) check() error {
	switch {
	case f.Op != OpQuote && f.Op != OpRegisters && f.Op != OpExtend:
		return errors.New("a fault names its operation: quote, registers or extend")
	case f.Skip < 0 || f.Times < 0 || f.Delay < 0:
		return errors.New("a fault has no negative number")
	case f.After && f.Op != OpExtend:
		return errors.New("only an extend can fail after it was carried out")
	case f.Empty && f.Op != OpQuote:
		return errors.New("only a quote can be empty")
	}
	return nil
}

// faults are those in force.
type faults struct {
	mu     sync.Mutex
	active []Fault
	anew   chan struct{} // closed when active is replaced
}

// Inject puts these faults in force, in place of those before. Without any, all
// calls succeed.
func (m *Machine) Inject(list ...Fault) error {
	for _, f := range list {
		if err := f.check(); err != nil {
			return err
		}
	}
	s := &m.faults
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.anew != nil {
		close(s.anew)
	}
	s.anew = make(chan struct{})
	s.active = append([]Fault(nil), list...)
	return nil
}

// met is the fault that one call meets; the zero value is none.
type met struct {
	Fault
	anew <-chan struct{}
}

// next returns the first fault that this call meets.
func (s *faults) next(op string) met {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.active {
		f := &s.active[i]
		switch {
		case f.Op != op, f.Times < 0:
			continue
		case f.Skip > 0:
			f.Skip--
			continue
		}
		was := met{*f, s.anew}
		if f.Times == 1 {
			f.Times = -1 // no call meets it any more
		} else if f.Times > 1 {
			f.Times--
		}
		return was
	}
	return met{}
}

// before waits and fails as the fault says, before the operation.
func (f met) before(ctx context.Context) error {
	if f.Delay > 0 {
		t := time.NewTimer(f.Delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if f.After {
		return nil
	}
	return f.fail(ctx)
}

// after fails as the fault says, after an operation that took effect.
func (f met) after(ctx context.Context) error {
	if !f.After {
		return nil
	}
	return f.fail(ctx)
}

func (f met) fail(ctx context.Context) error {
	if f.Hang {
		select {
		case <-f.anew:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return f.err()
}

func (f met) err() error {
	switch {
	case f.Errno != 0:
		return hw.NewError(f.Op, place, f.Errno)
	case f.Empty:
		return hw.NewError(f.Op, place, fmt.Errorf("%w: an empty quote", hw.ErrMalformed))
	}
	return nil
}
