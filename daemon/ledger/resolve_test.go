package ledger

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
)

// hung is a register whose extends, or readings, don't come back for a while,
// and which takes no notice of contexts, as a system call doesn't.
type hung struct {
	register
	extends, reads sync.WaitGroup // as long as they are above zero
}

func (h *hung) Extend(ctx context.Context, d hw.Digest) error {
	h.extends.Wait()
	return h.register.Extend(ctx, d)
}

func (h *hung) Registers(ctx context.Context) (hw.Registers, error) {
	h.reads.Wait()
	return h.register.Registers(ctx)
}

func openHung(t *testing.T) (*Ledger, *hung) {
	h := &hung{}
	l := openWith(t, Options{Dir: t.TempDir(), Register: h})
	must(t, l, public(logs.OpStart), launch("a", "1"))
	return l, h
}

// soon runs f with a context that ends soon, and wants it to end then and there.
func soon(t *testing.T, what string, f func(context.Context) error) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	select {
	case err := <-ended:
		return err
	case <-time.After(5 * time.Second):
		t.Fatalf("%s waits though its time is up", what)
		return nil
	}
}

func wantGaveUp(t *testing.T, what string, err error) {
	t.Helper()
	var hardware *hw.Error
	if !errors.As(err, &hardware) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%s: %v; want a failure of the hardware by the deadline", what, err)
	}
}

// The register hangs: all who wait give up in time, the extend under way is
// seen through, and what was given up before its turn never happens.
func TestHungRegister(t *testing.T) {
	for name, at := range map[string]func(*hung) *sync.WaitGroup{
		"extend":  func(h *hung) *sync.WaitGroup { return &h.extends },
		"reading": func(h *hung) *sync.WaitGroup { return &h.reads },
	} {
		t.Run(name, func(t *testing.T) {
			l, h := openHung(t)
			at(h).Add(1)
			appending := func(content string) func(context.Context) error {
				return func(ctx context.Context) error {
					_, err := l.Append(ctx, extend("a", content))
					return err
				}
			}
			wantGaveUp(t, "the append that hangs", soon(t, "append", appending("under way")))
			wantGaveUp(t, "an append behind it", soon(t, "append", appending("gave up")))
			wantGaveUp(t, "a check", soon(t, "check", l.Check))
			s, err := l.Snapshot("a")
			if err != nil || s.Count != 2 {
				t.Errorf("a snapshot meanwhile: %d events, %v", s.Count, err)
			}
			wantGaveUp(t, "a view that needs the outcome", soon(t, "view", func(ctx context.Context) error {
				_, err := l.View(ctx, "a", s, hw.Digest{1}, ShowDigests)
				return err
			}))
			at(h).Done()
			must(t, l, extend("a", "afterwards"))
			events, err := l.Events("a")
			if err != nil || len(events) != 3 {
				t.Fatalf("%d events of its own, %v; want launch, the one under way and the one afterwards", len(events), err)
			}
			if s, _ := l.Snapshot("a"); s.Register != h.value {
				t.Error("log and register disagree")
			}
		})
	}
}

// Whoever gave up a launch, an image or an exit asks again: each is logged once.
func TestAskedAgainLoggedOnce(t *testing.T) {
	l, h := openHung(t)
	for _, e := range []Event{
		launch("b", "1"),
		{Operation: logs.OpImage, Owner: "b", Instance: "1", Measured: map[string]any{"reference": "x"}},
		{Operation: logs.OpExit, Owner: "b", Instance: "1"},
	} {
		h.extends.Add(1)
		wantGaveUp(t, e.Operation, soon(t, e.Operation, func(ctx context.Context) error {
			_, err := l.Append(ctx, e)
			return err
		}))
		h.extends.Done()
		must(t, l, e) // again
	}
	must(t, l, launch("b", "2"), Event{Operation: logs.OpImage, Owner: "b", Instance: "2", Measured: map[string]any{"reference": "x"}})
	if s, _ := l.Snapshot("b"); s.Count != 7 || s.Owner.Events != 2 || s.Register != h.value {
		t.Errorf("%+v", s)
	}
}

// A register that hangs doesn't keep the daemon from ending.
func TestCloseWhileHung(t *testing.T) {
	l, h := openHung(t)
	h.extends.Add(1)
	wantGaveUp(t, "append", soon(t, "append", func(ctx context.Context) error {
		_, err := l.Append(ctx, extend("a", "under way"))
		return err
	}))
	begin := time.Now()
	if err := l.Close(); err == nil || time.Since(begin) > 2*closeTime {
		t.Errorf("closed with an extend under way after %v: %v", time.Since(begin), err)
	}
	h.extends.Done()
	next := func() error {
		n, err := Open(t.Context(), Options{Dir: l.opts.Dir, BootID: "boot", Anchor: AnchorRTMR3, Register: h})
		if err != nil {
			return err
		}
		defer n.Close()
		if s, err := n.Snapshot("a"); err != nil || s.Count != 3 || s.Register != h.value {
			t.Errorf("after it ended: %+v, %v", s, err)
		}
		return nil
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if err := next(); err == nil || time.Now().After(end) {
			if err != nil {
				t.Error(err)
			}
			return
		}
	}
}

// A register that fails, or hangs, when the daemon starts is read later: it ends
// nothing, and nothing is told meanwhile of a record whose outcome isn't known.
func TestOpenWithARegisterThatFails(t *testing.T) {
	for _, done := range []bool{false, true} {
		for _, hangs := range []bool{false, true} {
			h := &hung{}
			opts := Options{Dir: t.TempDir(), BootID: "boot", Anchor: AnchorRTMR3, Register: h}
			l := openWith(t, opts)
			must(t, l, public(logs.OpStart))
			before := h.value
			must(t, l, launch("a", "1"))
			l.Close()
			if !done {
				h.value = before // it died before the extend
			}
			if hangs {
				h.reads.Add(1)
			} else {
				h.onRead = func() error { return unix.EIO }
			}
			if err := soon(t, "open", func(ctx context.Context) (err error) {
				l, err = Open(ctx, opts)
				return err
			}); err != nil {
				t.Fatalf("done %v, hangs %v: %v", done, hangs, err)
			}
			if s, err := l.Snapshot("a"); err != nil || s.Count != 1 || s.Owner.Instance != "" {
				t.Errorf("done %v, hangs %v: it tells of %+v, %v", done, hangs, s, err)
			}
			l.Begin(t.Context())
			if hangs {
				h.reads.Done()
			} else {
				h.onRead = nil
			}
			must(t, l, public(logs.OpStart))
			want := map[bool]int{false: 2, true: 3}[done]
			if s, err := l.Snapshot("a"); err != nil || s.Count != want || s.Register != h.value || (s.Owner.Instance == "1") != done {
				t.Errorf("done %v, hangs %v: %+v, %v", done, hangs, s, err)
			}
			l.Close()
		}
	}
}
