package form

import (
	"encoding/hex"
	"testing"
)

// TestCBORHeads: arguments of all sizes; a form longer than necessary is
// refused.
func TestCBORHeads(t *testing.T) {
	for _, n := range []uint64{0, 23, 24, 255, 256, 65535, 65536, 1<<32 - 1, 1 << 32, 1<<64 - 1} {
		b := appendHead(nil, majorBytes, n)
		c := &cbor{b: b}
		if got := c.head(majorBytes); got != n || c.err != nil || len(c.b) != 0 {
			t.Errorf("%d: %d, %v", n, got, c.err)
		}
		c = &cbor{b: b}
		if c.head(majorText); c.err == nil {
			t.Errorf("%d: the type differs", n)
		}
	}
	for _, long := range []string{"5817", "5900ff", "5a0000ffff", "5b00000000ffffffff", "5c", "5f", "58", "59ff"} {
		b, _ := hex.DecodeString(long)
		c := &cbor{b: b}
		if c.head(majorBytes); c.err == nil {
			t.Errorf("%s: accepted", long)
		}
	}
}
