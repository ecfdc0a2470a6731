package logs

import (
	"bytes"
	"crypto"
	"strings"
	"testing"
)

// What a container is shown replays to the registers.
func TestBootViewReplays(t *testing.T) {
	raw := moduleCCEL(t, "ubuntu-2404-intel-tdx.bin")
	want, err := ReplayBootLog(raw)
	if err != nil {
		t.Fatal(err)
	}
	var got Registers
	n := 0
	for v := range mustParse(t, raw).UnverifiedView() {
		n++
		if v.TypeName != EventTypeName(v.Type) || v.Alg != AlgSHA384 || len(v.Digest) != 48 {
			t.Fatalf("%+v", v)
		}
		if v.Type != EvNoAction {
			got[v.IMR] = Extend(got[v.IMR], [48]byte(v.Digest))
		}
	}
	if got != want || n != 157 { // 159 less two of MR 0
		t.Errorf("%d events, %x, want %x", n, got, want)
	}
	for v := range mustParse(t, EncodeBootLog(someEvents())).UnverifiedView() {
		if strings.Contains(string(v.Event), "no known register") || v.IMR > 3 {
			t.Errorf("%+v", v)
		}
	}
}

func TestIMAView(t *testing.T) {
	var raw string
	var entries []kernelEntry
	for i := range 10 {
		k := inCgroup("/a", "/bin/"+strings.Repeat("x", i))
		k.violated = i == 4
		entries = append(entries, k)
		other := k
		other.pcr = 5
		raw += k.ascii(crypto.SHA384) + other.ascii(crypto.SHA384)
	}
	rtmr2 := NewRTMR2([48]byte{})
	if err := NewIMAReader(strings.NewReader(raw)).Replay(rtmr2); err != nil {
		t.Fatal(err)
	}
	var register [48]byte
	for start := 0; ; start += 3 {
		page, err := NewIMAReader(strings.NewReader(raw)).ReadUnverifiedView(start, 3)
		if err != nil || start == 9 && len(page) != 1 || start < 9 && len(page) != 3 {
			t.Fatalf("from %d: %d entries, %v", start, len(page), err)
		}
		for i, v := range page {
			want := "swapper/0 /a " + entries[start+i].fields[2].ascii + " " + entries[start+i].fields[3].ascii
			if v.IMR != 2 || v.TypeName != "IMA_MEASUREMENT_EVENT" || v.Template != "ima-cgpath" || string(v.Event) != want {
				t.Errorf("%+v", v)
			}
			register = Extend(register, [48]byte(v.Digest))
		}
		if start == 9 {
			break
		}
	}
	if !bytes.Equal(register[:], rtmr2.Value()) {
		t.Error("the view doesn't replay to RTMR2")
	}
}
