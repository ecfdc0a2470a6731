package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
)

// register is a measurement register in memory, which fails as a test needs.
type register struct {
	mu       sync.Mutex
	value    hw.Digest
	onExtend func(*register, hw.Digest) error // nil: extends succeed
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

// openWith opens a ledger and begins it without events of its own.
func openWith(t testing.TB, opts Options) *Ledger {
	t.Helper()
	opts.BootID, opts.Anchor = cmp.Or(opts.BootID, "boot"), logs.AnchorRTMR3
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

// all returns all events of the log.
func all(t testing.TB, l *Ledger) []logs.Event {
	t.Helper()
	s, _ := l.Snapshot("")
	view, err := l.View(t.Context(), "", s, s.Quoted(), ShowAll)
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

func wantInconsistent(t *testing.T, err error, count int) {
	t.Helper()
	var in *InconsistentError
	if !errors.As(err, &in) || in.Count != count {
		t.Fatalf("error %v; want one that names %d events as the last agreement", err, count)
	}
}

// filled is a ledger with some containers and 1,000 events.
func filled(b testing.TB) *Ledger {
	b.Helper()
	l := openWith(b, Options{Dir: b.TempDir(), Register: &register{}})
	for i := range 1000 {
		e := extend(fmt.Sprint(i%10), fmt.Sprint("event ", i))
		if i < 10 {
			e = launch(fmt.Sprint(i), "first")
		}
		if _, err := l.Append(b.Context(), e); err != nil {
			b.Fatal(err)
		}
	}
	return l
}

// hung is a register whose extends or reads don't return for a while, and which
// ignores contexts, as a system call does.
type hung struct {
	register
	extends, reads sync.WaitGroup // calls hang while these are above zero
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

// soon runs f with a context that ends soon. f must return when the context ends.
// The test runs in a bubble of synctest: it hangs, and fails, if f goes on.
func soon(t *testing.T, what string, f func(context.Context) error) error {
	t.Helper()
	const timeout = time.Second
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	begin := time.Now()
	err := f(ctx)
	if took := time.Since(begin); took > timeout {
		t.Errorf("%s returned after %v, its context ended after %v", what, took, timeout)
	}
	return err
}

func wantGaveUp(t *testing.T, what string, err error) {
	t.Helper()
	var hardware *hw.Error
	if !errors.As(err, &hardware) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%s: %v; want a failure of the hardware by the deadline", what, err)
	}
}

// A register that hangs doesn't keep the daemon from ending.
func TestCloseWhileHung(t *testing.T) { synctest.Test(t, closeWhileHung) }

func closeWhileHung(t *testing.T) {
	l, h := openHung(t)
	h.extends.Add(1)
	wantGaveUp(t, "append", soon(t, "append", func(ctx context.Context) error {
		_, err := l.Append(ctx, extend("a", "under way"))
		return err
	}))
	begin := time.Now()
	if err := l.Close(); err == nil || time.Since(begin) != closeTime {
		t.Errorf("closed while the register hangs after %v: %v", time.Since(begin), err)
	}
	h.extends.Done()
	synctest.Wait() // the file is closed
	next, err := Open(t.Context(), Options{Dir: l.opts.Dir, BootID: "boot", Anchor: logs.AnchorRTMR3, Register: h})
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if s, err := next.Snapshot("a"); err != nil || s.Count != 3 || s.Register != h.value {
		t.Errorf("after it ended: %+v, %v", s, err)
	}
}

// A register that fails, or hangs, when the daemon starts is read later: Open
// returns no error, and shows no record whose outcome isn't known.
func TestOpenWithARegisterThatFails(t *testing.T) {
	for _, done := range []bool{false, true} {
		for _, hangs := range []bool{false, true} {
			t.Run(fmt.Sprintf("done %t, hangs %t", done, hangs), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { openWithARegisterThatFails(t, done, hangs) })
			})
		}
	}
}

func openWithARegisterThatFails(t *testing.T, done, hangs bool) {
	h := &hung{}
	opts := Options{Dir: t.TempDir(), BootID: "boot", Anchor: logs.AnchorRTMR3, Register: h}
	l := openWith(t, opts)
	must(t, l, public(logs.OpStart))
	before := h.value
	must(t, l, launch("a", "1"))
	l.Close()
	if !done {
		h.value = before // the daemon died before the extend
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
