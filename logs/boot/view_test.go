package boot

import (
	"strings"
	"testing"

	"github.com/cima-project/cima/logs/alg"
)

// What a container sees must replay to the registers.
func TestViewReplays(t *testing.T) {
	raw := moduleCCEL(t, "ubuntu-2404-intel-tdx.bin")
	want, err := Replay(raw)
	if err != nil {
		t.Fatal(err)
	}
	var got Registers
	n := 0
	for v := range mustParse(t, raw).UnverifiedView() {
		n++
		if v.Alg != alg.SHA384 || len(v.Digest) != 48 {
			t.Fatalf("%+v", v)
		}
		if v.Type != EvNoAction {
			got[v.IMR] = extended(got[v.IMR], [48]byte(v.Digest))
		}
	}
	if got != want || n != 157 { // 159 less two of MR 0
		t.Errorf("%d events, %s, want %s", n, got, want)
	}
	for v := range mustParse(t, Encode(someEvents())).UnverifiedView() {
		if strings.Contains(string(v.Event), "no known register") || v.IMR > 3 {
			t.Errorf("%+v", v)
		}
	}
}
