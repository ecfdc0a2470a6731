package server

import "context"

// A slot lets one handler run for a caller. There are Limits.CallerCalls of them for
// each caller.
type slot struct {
	of   *caller
	held bool
}

type slotKey struct{}

// take waits until the handler may run.
func (s *slot) take(ctx context.Context) error {
	select {
	case s.of.calls <- struct{}{}:
		s.held = true
		return nil
	default:
	}
	select {
	case s.of.calls <- struct{}{}:
		s.held = true
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *slot) leave() {
	if s.held {
		s.held = false
		<-s.of.calls
	}
}

// Aside lets a handler wait for what takes long and costs the server nothing, such as a
// quote. Meanwhile other calls of the caller run. ctx is the handler's; the error is that
// of its end.
func Aside(ctx context.Context, wait func()) error {
	s, _ := ctx.Value(slotKey{}).(*slot)
	if s == nil {
		wait()
		return nil
	}
	s.leave()
	wait()
	return s.take(ctx)
}
