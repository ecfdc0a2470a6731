package ima

import (
	"strings"
	"testing"

	"github.com/cima-project/cima/logs/alg"
)

// A template hash of 32 bytes is SHA-256's or SM3's. These entries were hashed by openssl.
func TestSM3Log(t *testing.T) {
	const entries = "10 c921fba51c06ee9c29f0e2f465242f6c37fa17b908781a86e51c4958df035ce4 ima-ng sm3:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f boot_aggregate\n" +
		"10 d96d5791349b5447d8abfbe0c750c17e5ccbe916598d9c8a70b42910c56006d8 ima-ng sm3:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f /usr/bin/true\n"
	r := NewReader(strings.NewReader(entries))
	r.Check = true
	for range 2 {
		e, err := r.Next()
		if err != nil || e.Alg != alg.SM3 || r.Mismatched != 0 {
			t.Errorf("%v, %v, %d wrong", e, err, r.Mismatched)
		}
	}
	r = NewReader(strings.NewReader(strings.Replace(entries, "c921", "c922", 1)))
	r.Check = true
	if e, err := r.Next(); err != nil || e.Alg != alg.SHA256 || r.Mismatched != 1 {
		t.Errorf("%v, %v, %d wrong", e, err, r.Mismatched)
	}
}
