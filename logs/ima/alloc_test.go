package ima

import (
	"bytes"
	"crypto"
	"runtime"
	"strings"
	"testing"

	"github.com/cima-project/cima/logs/alg"
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
	entry := everyTemplate()[1].ascii(crypto.SHA1)
	for _, unit := range []string{
		"\n", "x\n", "1 \n", "[", "\x00", "\xff",
		"10 " + strings.Repeat("a", 40) + " ima-ng \n", "10 " + strings.Repeat("a", 40) + " ima a\n",
		"10 " + strings.Repeat("a", 40) + " ima-ng a b\n10 " + strings.Repeat("a", 40) + " ima-buf a b c\n",
		strings.Replace(entry, "e", "f", 1), everyTemplate()[11].ascii(crypto.SHA1),
		everyTemplate()[1].binary(crypto.SHA1), everyTemplate()[11].binary(crypto.SHA1),
		strings.Repeat("{", 100) + "\n",
		"10 " + strings.Repeat("a", 40) + " ima-ng sha1:00 " + strings.Repeat("x", 140_000) + "\n",
		growingEntries(50_000, 50_100, 100_200), growingEntries(100, 170, 250, 350, 500, 700, 1000, 1400, 2000, 3000, 4500, 7000),
	} {
		b := []byte(strings.Repeat(unit, size/len(unit)))
		bounded(t, len(b), func() { NewReader(bytes.NewReader(b)).Replay(NewRTMR2([48]byte{})) })
		bounded(t, len(b), func() {
			r := NewReader(bytes.NewReader(b))
			r.Check = true
			r.Replay(NewPCR(alg.SHA256, 10))
		})
		if t.Failed() {
			t.Fatalf("%.80q", unit)
		}
	}
}
