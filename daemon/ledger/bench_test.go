package ledger

import (
	"fmt"
	"testing"
)

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

// BenchmarkAppend is an event written ahead, extended and committed; the
// register is memory.
func BenchmarkAppend(b *testing.B) {
	l := filled(b)
	before := l.Status().Bytes
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := l.Append(b.Context(), extend("3", fmt.Sprint("event ", i))); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(l.Status().Bytes-before)/float64(b.N), "written-B/op")
}

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

// Each call of a container takes a snapshot: it allocates nothing.
func TestSnapshotAllocatesNothing(t *testing.T) {
	l := filled(t)
	if n := testing.AllocsPerRun(100, func() { l.Snapshot("3") }); n > 0 {
		t.Errorf("%.0f allocations", n)
	}
}
