package ledger

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/pcr"
)

// bank is a PCR in memory.
type bank struct {
	value pcr.Value
	lose  bool // extends do nothing, and say that they did
}

func (b *bank) Registers(context.Context) (hw.Registers, error) {
	return hw.Registers{PCR: b.value}, nil
}

func (b *bank) Extend(_ context.Context, d hw.Digest) error {
	if !b.lose {
		b.value = b.value.Extend(d)
	}
	return nil
}

func newBank() *bank {
	return &bank{value: pcr.Value{}.WithSHA256([32]byte{1}).WithSHA384([48]byte{2})}
}

// openPCR opens a log on a PCR, and logs the daemon's start.
func openPCR(t *testing.T, dir string, b *bank) (*Ledger, error) {
	t.Helper()
	l, err := Open(t.Context(), Options{Dir: dir, Register: b, BootID: "boot", Anchor: logs.AnchorPCR, PCR: 13})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, l.Begin(t.Context(), func(ctx context.Context) (Event, error) { return startOn(ctx, l) })
}

func startOn(ctx context.Context, l *Ledger) (Event, error) {
	first, err := l.First(ctx)
	return Event{Operation: logs.OpStart, Measured: logs.StartBody{
		AgentKey: make([]byte, 32), Register: &logs.RegisterBody{PCR: 13, First: first.Form()},
	}}, err
}

// Root extends the bank that no quote holds: the log's views are refused.
func TestOneBankOfAPCR(t *testing.T) {
	b := newBank()
	l, err := openPCR(t, t.TempDir(), b)
	if err != nil {
		t.Fatal(err)
	}
	must(t, l, launch("a", "1"))
	at, err := l.Snapshot("a")
	if err != nil {
		t.Fatal(err)
	}
	of256, _ := b.value.SHA256()
	quoted := hw.Registers{PCR: pcr.Value{}.WithSHA256(of256)}
	if _, err := l.View(t.Context(), "a", at, quoted, ShowDigests); err != nil {
		t.Fatal(err)
	}
	b.value = b.value.WithSHA384([48]byte{7})
	for range 2 {
		var inconsistent *InconsistentError
		if _, err := l.View(t.Context(), "a", at, quoted, ShowDigests); !errors.As(err, &inconsistent) || inconsistent.Count != 2 {
			t.Errorf("got %v, must be an InconsistentError after 2 events", err)
		}
	}
}

// The log begins at what the PCR held, goes on after a restart, and its views end where a
// quote of either bank says.
func TestPCR(t *testing.T) {
	dir, b := t.TempDir(), newBank()
	first := b.value
	l, err := openPCR(t, dir, b)
	if err != nil {
		t.Fatal(err)
	}
	must(t, l, launch("a", "1"), extend("a", "one"))
	at, err := l.Snapshot("a")
	if err != nil || at.PCR != b.value || l.first != first {
		t.Fatalf("the snapshot holds %v, the PCR %v, at first %v: %v", at.PCR, b.value, l.first, err)
	}
	must(t, l, extend("a", "two"))
	of256, _ := b.value.SHA256()
	of384, _ := b.value.SHA384()
	for _, quoted := range []pcr.Value{b.value, pcr.Value{}.WithSHA256(of256), pcr.Value{}.WithSHA384(of384)} {
		if n, err := l.find(t.Context(), at, hw.Registers{PCR: quoted}); n != 4 || err != nil {
			t.Errorf("a quote of %v ends the log after %d events, must be 4: %v", quoted, n, err)
		}
	}
	if _, err := l.find(t.Context(), at, hw.Registers{RTMR: [4]hw.Digest{3: at.Register}}); err == nil {
		t.Error("a quote without the PCR was taken")
	}
	l.Close()
	again, err := openPCR(t, dir, b)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := again.Snapshot("a"); err != nil || s.Count != 5 || s.PCR != b.value || again.first != first {
		t.Errorf("after a restart: %+v, first %v: %v", s, again.first, err)
	}
}

// Whoever extends the PCR, in one bank or in both, is noticed before the next event.
func TestPCRExtendedByOthers(t *testing.T) {
	for name, hostile := range map[string]func(pcr.Value) pcr.Value{
		"both banks": func(v pcr.Value) pcr.Value { return v.Extend(hw.Digest{1}) },
		"one bank":   func(v pcr.Value) pcr.Value { return v.WithSHA384([48]byte{9}) },
		"reset":      func(pcr.Value) pcr.Value { return newBank().value },
		"bank gone": func(v pcr.Value) pcr.Value {
			of, _ := v.SHA256()
			return pcr.Value{}.WithSHA256(of)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBank()
			l, err := openPCR(t, t.TempDir(), b)
			if err != nil {
				t.Fatal(err)
			}
			b.value = hostile(b.value)
			_, err = l.Append(t.Context(), launch("a", "1"))
			if _, broken := errors.AsType[*InconsistentError](err); !broken {
				t.Errorf("an event is logged all the same: %v", err)
			}
		})
	}
}

// The daemon dies around event 0: the PCR alone decides, and what it held at first stays
// the same if event 0 was attested.
func TestPCRCrash(t *testing.T) {
	for name, extended := range map[string]bool{"before the extend": false, "after the extend": true} {
		t.Run(name, func(t *testing.T) {
			dir, b := t.TempDir(), newBank()
			before := b.value
			l, err := openPCR(t, dir, b)
			if err != nil {
				t.Fatal(err)
			}
			l.Close()
			if !extended {
				b.value = before
			}
			again, err := openPCR(t, dir, b)
			want := 1
			if extended {
				want = 2
			}
			if s, failed := again.Snapshot(""); err != nil || failed != nil || s.Count != want || again.first != before || s.PCR != b.value {
				t.Errorf("%d events, must be %d; first %v, must be %v: %v, %v", s.Count, want, again.first, before, err, failed)
			}
		})
	}
}

// Something measures into the PCR between the reading of its first value and event 0: the
// start is logged with the value that it really had.
func TestPCRMovesBeforeTheLog(t *testing.T) {
	b := newBank()
	l, err := Open(t.Context(), Options{Dir: t.TempDir(), Register: b, BootID: "boot", Anchor: logs.AnchorPCR, PCR: 13})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	tries := 0
	err = l.Begin(t.Context(), func(ctx context.Context) (Event, error) {
		e, err := startOn(ctx, l)
		if tries++; tries == 1 {
			b.value = b.value.Extend(hw.Digest{7})
		}
		return e, err
	})
	moved := newBank().value.Extend(hw.Digest{7})
	if s, failed := l.Snapshot(""); err != nil || failed != nil || tries != 2 || s.Count != 1 || l.first != moved {
		t.Errorf("after %d tries the log has %d events from %v, must be %v: %v, %v", tries, s.Count, l.first, moved, err, failed)
	}
}

// An event 0 that says nothing of the PCR, or another value, is not logged.
func TestPCRNeedsItsFirstValue(t *testing.T) {
	other := pcr.Value{}.WithSHA256([32]byte{7}).Form()
	for name, register := range map[string]*logs.RegisterBody{"none": nil, "another": {PCR: 13, First: other}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			l, err := Open(t.Context(), Options{Dir: dir, Register: newBank(), BootID: "boot", Anchor: logs.AnchorPCR, PCR: 13})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if _, err := l.First(t.Context()); err != nil {
				t.Fatal(err)
			}
			_, err = l.append(t.Context(), Event{Operation: logs.OpStart, Measured: logs.StartBody{AgentKey: make([]byte, 32), Register: register}})
			text, _ := os.ReadFile(filepath.Join(dir, FileName))
			if s, _ := l.Snapshot(""); err == nil || s.Count != 0 {
				t.Errorf("it is logged: %s", text)
			}
		})
	}
}

// An extend that does nothing is no event.
func TestPCRLostExtend(t *testing.T) {
	b := newBank()
	l, err := openPCR(t, t.TempDir(), b)
	if err != nil {
		t.Fatal(err)
	}
	b.lose = true
	if _, err := l.Append(t.Context(), launch("a", "1")); err == nil {
		t.Error("an extend that did nothing is an event")
	}
	b.lose = false
	must(t, l, launch("a", "1"))
}
