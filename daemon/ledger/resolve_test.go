package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
)

// The register hangs: all waiting callers give up in time, the extend in
// progress is completed, and an append that was given up before its turn is
// never made.
func TestHungRegister(t *testing.T) {
	for name, at := range map[string]func(*hung) *sync.WaitGroup{
		"extend":  func(h *hung) *sync.WaitGroup { return &h.extends },
		"reading": func(h *hung) *sync.WaitGroup { return &h.reads },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
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
					_, err := l.View(ctx, "a", s, hw.Registers{RTMR: [4]hw.Digest{3: hw.Digest{1}}}, ShowDigests)
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
		})
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
		wantInconsistent(t, err, 1) // the last record may have been extended before the foreign extend, or not
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
		_, err := l.View(t.Context(), "", s, hw.Registers{RTMR: [4]hw.Digest{3: s.Register.Extend(hw.Digest{1})}}, ShowDigests)
		wantInconsistent(t, err, 1)
	})
}

// A register that can't be read after an extend leaves the outcome open until
// it can be read.
func TestUnknownOutcomeIsResolvedLater(t *testing.T) {
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
