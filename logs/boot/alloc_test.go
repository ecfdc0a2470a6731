package boot

import (
	"runtime"
	"strings"
	"testing"
)

// bounded fails where f allocates more than four times its input, and what
// a reader needs whatever it reads.
func bounded(t *testing.T, input int, f func()) {
	t.Helper()
	const fixed = 64 << 10
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > uint64(4*input+fixed) {
		t.Errorf("%d bytes allocated for an input of %d", used, input)
	}
}

// The worst that was thought of, at a size where it would show.
func TestAllocationIsBounded(t *testing.T) {
	const size = 256 << 10
	for _, unit := range []string{"\n", "\x00", "\xff", string(AppendEvent(nil, Event{}))} {
		b := append(Encode(nil), strings.Repeat(unit, size/len(unit))...)
		bounded(t, len(b), func() { Parse(b) })
		bounded(t, len(b), func() { Replay(b) })
		if t.Failed() {
			t.Fatalf("%.80q", unit)
		}
	}
}
