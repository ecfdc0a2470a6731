package canonical

import "testing"

// SHA-384 of 96 zero bytes, from sha384sum(1).
func TestExtend(t *testing.T) {
	const want = "f57bb7ed82c6ae4a29e6c9879338c592c7d42a39135583e8ccbe3940f2344b0eb6eb8503db0ffd6a39ddd00cd07d8317"
	if got := (Digest{}).Extend(Digest{}); got.String() != want {
		t.Errorf("%s", got)
	}
}
