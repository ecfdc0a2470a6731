package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
)

// shutLedger is a ledger before Begin.
func shutLedger(t *testing.T, r Register, limits Limits) *Ledger {
	t.Helper()
	l, err := Open(t.Context(), Options{Dir: t.TempDir(), BootID: "boot", Anchor: logs.AnchorRTMR3, Register: r, Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func returns(e Event) func(context.Context) (Event, error) {
	return func(context.Context) (Event, error) { return e, nil }
}

func operations(t *testing.T, l *Ledger) (names []string) {
	t.Helper()
	for _, e := range all(t, l) {
		names = append(names, e.Operation)
	}
	return names
}

// Begin's events come before all others, however often the register fails.
func TestBeginIsFirst(t *testing.T) {
	for name, failure := range map[string]error{
		"hardware":  hw.NewError(hw.OpExtend, "RTMR3", unix.EIO),
		"deadline":  fmt.Errorf("extend: %w", context.DeadlineExceeded),
		"full disk": unix.ENOSPC,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const failures = 5
				tries := 0
				r := &register{onExtend: func(r *register, d hw.Digest) error {
					if tries++; tries <= failures {
						return failure
					}
					r.value = r.value.Extend(d)
					return nil
				}}
				l := shutLedger(t, r, Limits{})
				appended := make(chan error, 1)
				go func() {
					_, err := l.Append(t.Context(), launch("a", "1"))
					appended <- err
				}()
				synctest.Wait()
				begin := time.Now()
				if err := l.Begin(t.Context(), returns(public(logs.OpStart)), returns(public(logs.OpPolicy))); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(begin); took != failures*beginRetry {
					t.Errorf("%d failures took %v", failures, took)
				}
				if err := <-appended; err != nil {
					t.Error(err)
				}
				if got := operations(t, l); !slices.Equal(got, []string{logs.OpStart, logs.OpPolicy, logs.OpLaunch}) {
					t.Errorf("logged: %v", got)
				}
			})
		})
	}
}

// Append and Ready give up at the ledger's deadline while Begin waits for a
// register that hangs. Begin doesn't give up: its event is logged once.
func TestBeginOutlastsTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const timeout = 10 * time.Second
		h := &hung{}
		l := shutLedger(t, h, Limits{Timeout: timeout})
		h.extends.Add(1)
		began := make(chan error, 1)
		go func() { began <- l.Begin(t.Context(), returns(public(logs.OpStart))) }()
		begin := time.Now()
		_, err := l.Append(t.Context(), launch("a", "1"))
		wantGaveUp(t, "append", err)
		wantGaveUp(t, "ready", l.Ready(t.Context()))
		if took := time.Since(begin); took != 2*timeout {
			t.Errorf("gave up after %v", took)
		}
		h.extends.Done()
		if err := <-began; err != nil {
			t.Error(err)
		}
		if err := l.Ready(t.Context()); err != nil {
			t.Error(err)
		}
		if got := operations(t, l); !slices.Equal(got, []string{logs.OpStart}) {
			t.Errorf("logged: %v", got)
		}
	})
}

// A permanent error is not retried: Begin returns it, and so do all other
// calls.
func TestBeginEndsWithAnErrorThatStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failure := errors.New("json: unsupported value: +Inf")
		l := shutLedger(t, &register{}, Limits{})
		calls := 0
		err := l.Begin(t.Context(), returns(public(logs.OpStart)), func(context.Context) (Event, error) {
			calls++
			return Event{}, failure
		}, returns(public(logs.OpSeal)))
		if !errors.Is(err, failure) || calls != 1 {
			t.Errorf("begin: %v after %d calls", err, calls)
		}
		if _, err := l.Append(t.Context(), launch("a", "1")); !errors.Is(err, failure) {
			t.Errorf("append: %v", err)
		}
		if err := l.Ready(t.Context()); !errors.Is(err, failure) {
			t.Errorf("ready: %v", err)
		}
		if got := operations(t, l); !slices.Equal(got, []string{logs.OpStart}) {
			t.Errorf("logged: %v", got)
		}
	})
}

func TestBeginEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := shutLedger(t, &register{onExtend: func(*register, hw.Digest) error {
			return hw.NewError(hw.OpExtend, "RTMR3", unix.EIO)
		}}, Limits{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := l.Begin(ctx, returns(public(logs.OpStart))); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("begin: %v", err)
		}
		if _, err := l.Append(t.Context(), launch("a", "1")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("append: %v", err)
		}
	})
}

// A log that a foreign extend has made inconsistent opens without Begin's
// events, so that callers can learn the reason.
func TestBeginOfAnInconsistentLog(t *testing.T) {
	l := shutLedger(t, &register{value: hw.Digest{1}}, Limits{})
	calls := 0
	if err := l.Begin(t.Context(), returns(public(logs.OpStart)), func(context.Context) (Event, error) {
		calls++
		return public(logs.OpPolicy), nil
	}); err != nil || calls != 0 {
		t.Errorf("begin: %v; %d more events were tried", err, calls)
	}
	_, err := l.Append(t.Context(), launch("a", "1"))
	wantInconsistent(t, err, 0)
}

// A ledger opens even if its log is full.
func TestBeginOfAFullLog(t *testing.T) {
	l := shutLedger(t, &register{}, Limits{Bytes: 1})
	if err := l.Begin(t.Context(), returns(public(logs.OpStart))); err != nil {
		t.Error(err)
	}
	if _, err := l.Append(t.Context(), launch("a", "1")); !errors.Is(err, ErrFull) {
		t.Errorf("append: %v", err)
	}
}
