package ledger

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
)

// register is a measurement register in memory that fails as it is told.
type register struct {
	mu       sync.Mutex
	value    hw.Digest
	onExtend func(*register, hw.Digest) error // nil: works
	onRead   func() error
}

func (r *register) Registers(context.Context) (hw.Registers, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.onRead != nil {
		if err := r.onRead(); err != nil {
			return hw.Registers{}, err
		}
	}
	return hw.Registers{RTMR: [4]hw.Digest{3: r.value}}, nil
}

func (r *register) Extend(_ context.Context, d hw.Digest) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.onExtend != nil {
		return r.onExtend(r, d)
	}
	r.value = r.value.Extend(d)
	return nil
}

func open(t *testing.T, dir string, r *register) *Ledger {
	t.Helper()
	return openWith(t, Options{Dir: dir, Register: r})
}

// openWith opens a ledger that takes events: Begin has no events of its own.
func openWith(t testing.TB, opts Options) *Ledger {
	t.Helper()
	opts.BootID, opts.Anchor = cmp.Or(opts.BootID, "boot"), AnchorRTMR3
	l, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if err := l.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	return l
}

// all are all events of the log.
func all(t testing.TB, l *Ledger) []logs.Event {
	t.Helper()
	s, _ := l.Snapshot("")
	view, err := l.View(t.Context(), "", s, s.Register, ShowAll)
	if err != nil {
		t.Fatal(err)
	}
	var events []logs.Event
	for _, entry := range view {
		e, err := logs.ParseEvent(entry.Event)
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	return events
}

func public(op string) Event { return Event{Operation: op, Measured: map[string]any{"x": 1}} }

func launch(name, instance string) Event {
	return Event{Operation: logs.OpLaunch, Owner: name, Instance: instance, Measured: map[string]any{"arguments": []string{name}}}
}

func extend(name, content string) Event {
	return Event{Operation: logs.OpExtend, Owner: name, Measured: map[string]any{"content": content}}
}

func must(t *testing.T, l *Ledger, events ...Event) {
	t.Helper()
	for _, e := range events {
		if _, err := l.Append(t.Context(), e); err != nil {
			t.Fatalf("append %s: %v", e.Operation, err)
		}
	}
}

// replay recomputes RTMR3 from a view as a relying party does.
func replay(t *testing.T, view []Entry) hw.Digest {
	t.Helper()
	var reg hw.Digest
	for _, e := range view {
		if e.Event != nil {
			ev, err := logs.ParseEvent(e.Event)
			if err != nil {
				t.Fatal(err)
			}
			reg = reg.Extend(ev.Digest())
		}
		for d := e.Digests; len(d) > 0; d = d[48:] {
			reg = reg.Extend(hw.Digest(d[:48]))
		}
	}
	return reg
}

func TestRestartKeepsLogAndRegisters(t *testing.T) {
	dir, r := t.TempDir(), &register{}
	l := open(t, dir, r)
	must(t, l, public(logs.OpStart), launch("a", "1"), extend("a", "one"), launch("b", "7"), public(logs.OpSeal), extend("a", "two"))
	before, err := l.Snapshot("a")
	if err != nil {
		t.Fatal(err)
	}
	if before.Register != r.value || before.Count != 6 || before.Owner.Events != 3 || before.Owner.Instance != "1" {
		t.Fatalf("snapshot %+v, register %v", before, r.value)
	}
	l.Close()
	if after, err := open(t, dir, r).Snapshot("a"); err != nil || after != before {
		t.Fatalf("after a restart %+v, %v; before it %+v", after, err, before)
	}
}

func TestLaunchBeginsANewInstance(t *testing.T) {
	r := &register{}
	l := open(t, t.TempDir(), r)
	must(t, l, launch("a", "1"), extend("a", "x"))
	first, _ := l.Snapshot("a")
	must(t, l, launch("a", "2"), extend("a", "x"))
	second, _ := l.Snapshot("a")
	if first.Owner.Register != second.Owner.Register || second.Owner.Instance != "2" || second.Owner.Events != 2 {
		t.Fatalf("the same events of a new instance: %+v, then %+v", first.Owner, second.Owner)
	}
	events, err := l.Events("a")
	if err != nil || len(events) != 2 || events[0].Operation != logs.OpLaunch {
		t.Fatalf("events of the instance: %v, %v", events, err)
	}
}

// The daemon dies at every point of an append; the register decides.
func TestCrash(t *testing.T) {
	tests := []struct {
		name   string
		hurt   func(t *testing.T, dir string, r *register, before hw.Digest)
		events int
	}{
		{"after the extend", func(*testing.T, string, *register, hw.Digest) {}, 2},
		{"between record and extend", func(_ *testing.T, _ string, r *register, before hw.Digest) { r.value = before }, 1},
		{"in the midst of the record", func(t *testing.T, dir string, r *register, before hw.Digest) {
			r.value = before
			cut(t, dir, 5)
		}, 1},
		{"before the record's newline", func(t *testing.T, dir string, r *register, before hw.Digest) {
			r.value = before
			cut(t, dir, 1)
		}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir, r := t.TempDir(), &register{}
			l := open(t, dir, r)
			must(t, l, public(logs.OpStart))
			before := r.value
			must(t, l, launch("a", "1"))
			l.Close()
			tt.hurt(t, dir, r, before)
			l = open(t, dir, r)
			s, err := l.Snapshot("a")
			if err != nil || s.Count != tt.events || s.Register != r.value {
				t.Fatalf("%d events, %v; want %d", s.Count, err, tt.events)
			}
			must(t, l, extend("a", "goes on"))
			if s, _ := l.Snapshot("a"); s.Register != r.value {
				t.Fatal("log and register disagree after going on")
			}
		})
	}
}

func cut(t *testing.T, dir string, n int64) {
	t.Helper()
	path := filepath.Join(dir, FileName)
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, fi.Size()-n); err != nil {
		t.Fatal(err)
	}
}

func TestForeignExtend(t *testing.T) {
	foreign := func(r *register) { r.value = r.value.Extend(hw.Digest{9}) }
	t.Run("while running", func(t *testing.T) {
		r := &register{}
		l := open(t, t.TempDir(), r)
		must(t, l, public(logs.OpStart), launch("a", "1"))
		foreign(r)
		_, err := l.Append(t.Context(), extend("a", "x"))
		wantInconsistent(t, err, 2)
		_, err = l.Snapshot("a")
		wantInconsistent(t, err, 2)
	})
	t.Run("seen by a check", func(t *testing.T) {
		r := &register{}
		l := open(t, t.TempDir(), r)
		must(t, l, public(logs.OpStart))
		foreign(r)
		wantInconsistent(t, l.Check(t.Context()), 1)
	})
	t.Run("during an extend", func(t *testing.T) {
		r := &register{}
		l := open(t, t.TempDir(), r)
		must(t, l, public(logs.OpStart))
		r.onExtend = func(r *register, d hw.Digest) error { foreign(r); r.value = r.value.Extend(d); return nil }
		_, err := l.Append(t.Context(), launch("a", "1"))
		wantInconsistent(t, err, 1)
	})
	t.Run("while no daemon ran", func(t *testing.T) {
		dir, r := t.TempDir(), &register{}
		l := open(t, dir, r)
		must(t, l, public(logs.OpStart), launch("a", "1"))
		l.Close()
		foreign(r)
		_, err := open(t, dir, r).Snapshot("a")
		wantInconsistent(t, err, 1) // the last record may or may not have come before the foreign one
	})
	t.Run("before the first start", func(t *testing.T) {
		r := &register{}
		foreign(r)
		_, err := open(t, t.TempDir(), r).Append(t.Context(), public(logs.OpStart))
		wantInconsistent(t, err, 0)
	})
	t.Run("in a quote", func(t *testing.T) {
		r := &register{}
		l := open(t, t.TempDir(), r)
		must(t, l, public(logs.OpStart))
		s, _ := l.Snapshot("")
		_, err := l.View(t.Context(), "", s, s.Register.Extend(hw.Digest{1}), ShowDigests)
		wantInconsistent(t, err, 1)
	})
}

func wantInconsistent(t *testing.T, err error, count int) {
	t.Helper()
	var in *InconsistentError
	if !errors.As(err, &in) || in.Count != count {
		t.Fatalf("error %v; want one that names %d events as the last agreement", err, count)
	}
}

// Whatever an extend says, the register is believed.
func TestExtendOutcomes(t *testing.T) {
	eio := fmt.Errorf("extend: %w", unix.EIO)
	tests := []struct {
		name     string
		onExtend func(*register, hw.Digest) error
		logged   bool
	}{
		{"failed and not done", func(*register, hw.Digest) error { return eio }, false},
		{"failed and yet done", func(r *register, d hw.Digest) error { r.value = r.value.Extend(d); return eio }, true},
		{"reported done and not done", func(*register, hw.Digest) error { return nil }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir, r := t.TempDir(), &register{}
			l := open(t, dir, r)
			must(t, l, public(logs.OpStart))
			r.onExtend = tt.onExtend
			_, err := l.Append(t.Context(), launch("a", "1"))
			if (err == nil) != tt.logged {
				t.Fatalf("append: %v; logged should be %v", err, tt.logged)
			}
			r.onExtend = nil
			must(t, l, launch("b", "2"))
			want := 2
			if tt.logged {
				want = 3
			}
			if s, err := l.Snapshot("b"); err != nil || s.Count != want || s.Register != r.value {
				t.Fatalf("%d events, want %d; %v", s.Count, want, err)
			}
		})
	}
}

// A register that can't be read after an extend leaves the outcome open until
// it can.
func TestUnknownOutcomeIsSettledLater(t *testing.T) {
	for _, done := range []bool{false, true} {
		t.Run(fmt.Sprint("done=", done), func(t *testing.T) {
			r := &register{}
			l := open(t, t.TempDir(), r)
			must(t, l, public(logs.OpStart))
			r.onExtend = func(r *register, d hw.Digest) error {
				if done {
					r.value = r.value.Extend(d)
				}
				r.onRead = func() error { return unix.EIO }
				return unix.EIO
			}
			if _, err := l.Append(t.Context(), launch("a", "1")); !errors.Is(err, unix.EIO) {
				t.Fatalf("append: %v", err)
			}
			if _, err := l.Append(t.Context(), launch("b", "1")); !errors.Is(err, unix.EIO) {
				t.Fatalf("append while the outcome is open: %v", err)
			}
			r.onRead, r.onExtend = nil, nil
			must(t, l, launch("c", "1"))
			want := map[bool]int{false: 2, true: 3}[done]
			if s, err := l.Snapshot("c"); err != nil || s.Count != want || s.Register != r.value {
				t.Fatalf("%d events, want %d; %v", s.Count, want, err)
			}
		})
	}
}

func TestAnotherBootIsNotContinued(t *testing.T) {
	dir, r := t.TempDir(), &register{}
	l := open(t, dir, r)
	must(t, l, public(logs.OpStart))
	l.Close()
	next := openWith(t, Options{Dir: dir, BootID: "another", Register: &register{}})
	must(t, next, public(logs.OpStart))
	if _, err := os.Stat(filepath.Join(dir, FileName+".old")); err != nil {
		t.Fatal("the old log was not set aside:", err)
	}
}

func TestOneDaemonOnly(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, &register{})
	_, err := Open(t.Context(), Options{Dir: dir, BootID: "boot", Anchor: AnchorRTMR3, Register: &register{}})
	if err == nil || !strings.Contains(err.Error(), "another daemon") {
		t.Fatalf("second open: %v", err)
	}
}

func TestChangedFileIsFound(t *testing.T) {
	dir, r := t.TempDir(), &register{}
	l := open(t, dir, r)
	must(t, l, public(logs.OpStart), launch("a", "1"), launch("b", "1"))
	l.Close()
	path := filepath.Join(dir, FileName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(whole, []byte("\n"))
	without := bytes.Join(append(lines[:2:2], lines[3:]...), nil)
	if err := os.WriteFile(path, without, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Options{Dir: dir, BootID: "boot", Anchor: AnchorRTMR3, Register: r}); err == nil {
		t.Fatal("a log with an event taken out was opened")
	}
}

// What belongs to a start of a container that is over doesn't go into the
// register of the next one.
func TestEventsOfAnInstanceThatIsOver(t *testing.T) {
	r := &register{}
	l := open(t, t.TempDir(), r)
	must(t, l, launch("a", "1"))
	late := extend("a", "late")
	late.Instance = "1"
	must(t, l, late, launch("a", "2"))
	before, _ := l.Snapshot("a")
	for _, e := range []Event{late, {Operation: logs.OpExit, Owner: "a", Instance: "1"}, {Operation: logs.OpExit, Owner: "b", Instance: "1"}} {
		if _, err := l.Append(t.Context(), e); !errors.Is(err, ErrReplaced) {
			t.Errorf("%s of the first instance: %v", e.Operation, err)
		}
	}
	if after, _ := l.Snapshot("a"); after != before {
		t.Errorf("the log went on: %+v, then %+v", before, after)
	}
}

func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("left out: needs root to mount a small file system")
	}
	dir, r := t.TempDir(), &register{}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=16k"); err != nil {
		t.Skipf("left out: mount a small file system: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	l := open(t, dir, r)
	full := false
	for i := range 200 {
		if _, err := l.Append(t.Context(), launch(fmt.Sprint("c", i), "1")); err != nil {
			if !errors.Is(err, unix.ENOSPC) {
				t.Fatal(err)
			}
			full = true
			break
		}
	}
	s, err := l.Snapshot("")
	if !full || err != nil || s.Register != r.value {
		t.Fatalf("full=%v, %v, agree=%v", full, err, s.Register == r.value)
	}
	l.Close()
	if again, err := open(t, dir, r).Snapshot(""); err != nil || again.Count != s.Count {
		t.Fatalf("after a restart %d events of %d, %v", again.Count, s.Count, err)
	}
}

func TestViewShowsOwnAndPublicOnly(t *testing.T) {
	r := &register{}
	l := open(t, t.TempDir(), r)
	must(t, l, public(logs.OpStart), launch("b", "1"), launch("c", "1"), launch("a", "1"), public(logs.OpSeal), extend("b", "secret of b"))
	s, err := l.Snapshot("a")
	if err != nil {
		t.Fatal(err)
	}
	must(t, l, extend("c", "after the claims"))
	quoted := r.value
	must(t, l, extend("c", "after the quote"))
	view, err := l.View(t.Context(), "a", s, quoted, ShowDigests)
	if err != nil {
		t.Fatal(err)
	}
	var shape []string
	for _, e := range view {
		if e.Event == nil {
			shape = append(shape, fmt.Sprint(len(e.Digests)/48, " hidden"))
			continue
		}
		ev, _ := logs.ParseEvent(e.Event)
		shape = append(shape, ev.Operation+ev.Container)
	}
	if got, want := strings.Join(shape, ", "), "start, 2 hidden, launcha, seal, 2 hidden"; got != want {
		t.Fatalf("view is %s, want %s", got, want)
	}
	if replay(t, view) != quoted {
		t.Fatal("the view doesn't replay to the quote's register")
	}
	whole, err := l.View(t.Context(), "a", s, quoted, ShowAll)
	if err != nil || len(whole) != 7 || replay(t, whole) != quoted {
		t.Fatalf("the view without isolation has %d entries, %v", len(whole), err)
	}
	hostView, err := l.View(t.Context(), "", s, quoted, ShowDigests)
	if err != nil || replay(t, hostView) != quoted {
		t.Fatalf("the host's view: %v", err)
	}
}

// Many writers, viewers, failures and deaths of the daemon in random order:
// what was acknowledged is there, and log and register agree.
func TestRandomHistory(t *testing.T) {
	for seed := range uint64(40) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		dir, r := t.TempDir(), &register{}
		fail := func(r *register, d hw.Digest) error {
			switch rnd.IntN(4) {
			case 0:
				return unix.EBUSY
			case 1:
				r.value = r.value.Extend(d)
				return unix.EINTR
			}
			r.value = r.value.Extend(d)
			return nil
		}
		r.onExtend = fail
		l := open(t, dir, r)
		acknowledged := 0
		for step := range 60 {
			_, err := l.Append(t.Context(), extend(fmt.Sprint("c", rnd.IntN(3)), fmt.Sprint(step)))
			if err == nil {
				acknowledged++
			}
			if rnd.IntN(10) == 0 {
				l.Close()
				before := r.value
				if rnd.IntN(2) == 0 { // died after writing ahead
					writeAhead(t, dir, before)
				}
				l = open(t, dir, r)
			}
		}
		s, err := l.Snapshot("c1")
		if err != nil || s.Register != r.value || s.Count != acknowledged {
			t.Fatalf("seed %d: %d events, %d acknowledged, %v", seed, s.Count, acknowledged, err)
		}
		view, err := l.View(t.Context(), "c1", s, r.value, ShowDigests)
		if err != nil || replay(t, view) != r.value {
			t.Fatalf("seed %d: view: %v", seed, err)
		}
		l.Close()
	}
}

// writeAhead leaves a record whose extend never came.
func writeAhead(t *testing.T, dir string, before hw.Digest) {
	t.Helper()
	e, err := newEvent(extend("c0", "never attested"))
	if err != nil {
		t.Fatal(err)
	}
	r := diskRecord{Before: before, After: before.Extend(e.Digest()), Event: e.Bytes()}
	line, err := r.encode()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, FileName), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(line); err != nil {
		t.Fatal(err)
	}
}

func TestConcurrentUse(t *testing.T) {
	r := &register{}
	l := open(t, t.TempDir(), r)
	must(t, l, public(logs.OpStart))
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			name := fmt.Sprint("c", w)
			for i := range 25 {
				if _, err := l.Append(t.Context(), extend(name, fmt.Sprint(i))); err != nil {
					t.Error(err)
					return
				}
				s, err := l.Snapshot(name)
				if err != nil {
					t.Error(err)
					return
				}
				now, _ := r.Registers(t.Context()) // a quote: its register may be ahead of the log
				view, err := l.View(t.Context(), name, s, now.RTMR[3], ShowDigests)
				if err != nil || replay(t, view) != now.RTMR[3] {
					t.Errorf("view: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
}
