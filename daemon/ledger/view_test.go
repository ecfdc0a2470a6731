package ledger

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
)

func BenchmarkSnapshot(b *testing.B) {
	l := filled(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.Snapshot("3"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkHeld reads the 100 events of a container from the disk.
func BenchmarkHeld(b *testing.B) {
	l := filled(b)
	b.ReportAllocs()
	var bytes int64
	for b.Loop() {
		events, err := l.Held("3", "first", 0, 100)
		if err != nil || len(events) != 100 {
			b.Fatal(len(events), err)
		}
		bytes = 0
		for _, e := range events {
			bytes += int64(len(e.Measured))
		}
	}
	b.SetBytes(bytes)
}

// Each call of a container takes a snapshot, which allocates nothing.
func TestSnapshotAllocatesNothing(t *testing.T) {
	l := filled(t)
	if n := testing.AllocsPerRun(100, func() { l.Snapshot("3") }); n > 0 {
		t.Errorf("%.0f allocations", n)
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
	view, err := l.View(t.Context(), "a", s, hw.Registers{RTMR: [4]hw.Digest{3: quoted}}, ShowDigests)
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
	whole, err := l.View(t.Context(), "a", s, hw.Registers{RTMR: [4]hw.Digest{3: quoted}}, ShowAll)
	if err != nil || len(whole) != 7 || replay(t, whole) != quoted {
		t.Fatalf("the view without isolation has %d entries, %v", len(whole), err)
	}
	hostView, err := l.View(t.Context(), "", s, hw.Registers{RTMR: [4]hw.Digest{3: quoted}}, ShowDigests)
	if err != nil || replay(t, hostView) != quoted {
		t.Fatalf("the host's view: %v", err)
	}
}

func TestOpenInstances(t *testing.T) {
	dir, r := t.TempDir(), &register{}
	l := open(t, dir, r)
	must(t, l, launch("a", "1"), launch("b", "1"), launch("a", "2"),
		Event{Operation: logs.OpExit, Owner: "b", Instance: "1"})
	// The longest path, and bytes that are not UTF-8, survive, also in the
	// longest event.
	path := "/" + strings.Repeat("\xff\x01", maxCgroup/2-1)
	somewhere := launch("1000/c", "3")
	somewhere.Cgroup, somewhere.Measured = path, map[string]any{"x": strings.Repeat("x", logs.MaxEvent-1024)}
	must(t, l, somewhere)
	if somewhere.Cgroup += "/more"; len(somewhere.Cgroup) <= maxCgroup {
		t.Fatal("not too long")
	}
	if _, err := l.Append(t.Context(), somewhere); err == nil {
		t.Error("a path that is too long was logged")
	}
	for range 2 {
		if got := l.Open(); len(got) != 2 || got["a"] != (Launched{Instance: "2"}) || got["1000/c"] != (Launched{Instance: "3", Cgroup: path}) {
			t.Errorf("open instances %v", got)
		}
		l.Close()
		l = open(t, dir, r)
	}
}
