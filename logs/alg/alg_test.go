package alg

import (
	"bytes"
	"crypto"
	_ "crypto/sha1"
	_ "crypto/sha512"
	"testing"
)

func TestAlgorithms(t *testing.T) {
	for id, c := range map[ID]struct {
		name string
		hash crypto.Hash
	}{SHA1: {"sha1", crypto.SHA1}, SHA256: {"sha256", crypto.SHA256}, SHA384: {"sha384", crypto.SHA384}, SHA512: {"sha512", crypto.SHA512}} {
		if id.String() != c.name || id.Size() != c.hash.Size() {
			t.Errorf("%#04x: %s of %d bytes, want %s of %d", uint16(id), id, id.Size(), c.name, c.hash.Size())
		}
		if got, ok := OfSize(c.hash.Size()); got != id || !ok {
			t.Errorf("the algorithm of %d bytes is %s, %v", c.hash.Size(), got, ok)
		}
		h := c.hash.New()
		h.Write([]byte("data"))
		if got := id.Sum([]byte("before"), []byte("data")); !bytes.Equal(got, h.Sum([]byte("before"))) {
			t.Errorf("%s: %x", id, got)
		}
	}
}

// What is not listed has no size, and can't be computed.
func TestOtherAlgorithms(t *testing.T) {
	const unknown ID = 0x0777
	if SM3.Size() != 32 || SM3.String() != "sm3_256" || unknown.Size() != 0 || unknown.String() != "0x0777" {
		t.Errorf("%s of %d bytes, %s of %d", SM3, SM3.Size(), unknown, unknown.Size())
	}
	if got := unknown.Sum([]byte("before"), []byte("data")); string(got) != "before" {
		t.Errorf("%x", got)
	}
	for _, size := range []int{0, 19, 33, 128} {
		if id, ok := OfSize(size); ok {
			t.Errorf("%d bytes: %s", size, id)
		}
	}
}
