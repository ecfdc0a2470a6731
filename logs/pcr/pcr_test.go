package pcr_test

import (
	"crypto/sha256"
	"crypto/sha512"
	"testing"

	"github.com/cima-project/cima/logs/pcr"
)

// Each bank is extended by what the TPM would do, and a quote of one bank is held by the
// value of both.
func TestExtend(t *testing.T) {
	event := sha512.Sum384([]byte("an event"))
	both := pcr.Value{}.WithSHA256([32]byte{1}).WithSHA384([48]byte{2})
	after := both.Extend(event)

	own := sha256.Sum256(event[:])
	want256 := sha256.Sum256(append([]byte{1, 31: 0}, own[:]...))
	want384 := sha512.Sum384(append([]byte{2, 47: 0}, event[:]...))
	if got, ok := after.SHA256(); !ok || got != want256 {
		t.Errorf("sha256: %x, must be %x", got, want256)
	}
	if got, ok := after.SHA384(); !ok || got != want384 {
		t.Errorf("sha384: %x, must be %x", got, want384)
	}
	for _, part := range []pcr.Value{after, pcr.Value{}.WithSHA256(want256), pcr.Value{}.WithSHA384(want384)} {
		if !after.Holds(part) {
			t.Errorf("%v is not held", part)
		}
	}
	for _, part := range []pcr.Value{{}, both, pcr.Value{}.WithSHA256(want256).WithSHA384([48]byte{2})} {
		if after.Holds(part) {
			t.Errorf("%v is held", part)
		}
	}
	if pcr.Value.Holds(pcr.Value{}.WithSHA256(want256), after) {
		t.Error("a bank that is not there is held")
	}
	if got := (pcr.Value{}).Extend(event); !got.None() {
		t.Errorf("an extend made a bank: %v", got)
	}
}

func TestForm(t *testing.T) {
	for _, v := range []pcr.Value{
		pcr.Value{}.WithSHA256([32]byte{}),
		pcr.Value{}.WithSHA384([48]byte{7}),
		pcr.Value{}.WithSHA256([32]byte{9}).WithSHA384([48]byte{}),
	} {
		if got, err := v.Form().Value(); err != nil || got != v {
			t.Errorf("%v is read as %v: %v", v, got, err)
		}
	}
	for _, f := range []pcr.Form{{}, {SHA256: "00"}, {SHA256: "AA" + (pcr.Value{}).WithSHA256([32]byte{}).Form().SHA256[2:]}} {
		if v, err := f.Value(); err == nil {
			t.Errorf("%+v is read as %v", f, v)
		}
	}
}

func TestMay(t *testing.T) {
	for n := -1; n <= 24; n++ {
		if got, want := pcr.May(n) == nil, n >= 0 && n < 16; got != want {
			t.Errorf("PCR %d may hold a log: %v", n, got)
		}
	}
}
