package rpc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
)

func somePage(n int) CCEventLog {
	page := CCEventLog{Events: []EventRecord{}, Total: n + 7, Next: n}
	for i := range n {
		r := EventRecord{
			RecNum: i, IMRIndex: i % 4, EventType: 0x80000000 + uint32(i), EventSize: 2 * (i % 50),
			Digests: []EventDigest{{AlgoID: 12, Hash: bytes.Repeat([]byte{byte(i)}, 48)}},
			Event:   bytes.Repeat([]byte{0xfb, byte(i)}, i%50),
		}
		if i%4 == 3 {
			r.ExtraInfo = map[string]string{"rtmr3_digest": fmt.Sprintf("%096x", i)}
		}
		if i%10 == 9 {
			r.Digests = append(r.Digests, EventDigest{AlgoID: 11, Hash: HexBytes{1}})
			r.ExtraInfo = map[string]string{"b": "<\"\u00e9", "a": "x\n"}
		}
		page.Events = append(page.Events, r)
	}
	return page
}

// A record is written as encoding/json writes it.
func TestEventRecordJSON(t *testing.T) {
	for _, r := range somePage(200).Events {
		ours, err := r.AppendJSON(nil)
		if err != nil {
			t.Fatal(err)
		}
		var theirs bytes.Buffer
		enc := json.NewEncoder(&theirs)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(r); err != nil {
			t.Fatal(err)
		}
		if string(ours)+"\n" != theirs.String() {
			t.Fatalf("ours   %s\ntheirs %s", ours, &theirs)
		}
	}
}

func TestPlainPage(t *testing.T) {
	page := somePage(9) // 9: no string of it needs an escape
	raw, err := json.Marshal(page)
	if err != nil {
		t.Fatal(err)
	}
	var got CCEventLog
	if !decodePlain(raw, &got) || !reflect.DeepEqual(got, page) {
		t.Errorf("got %+v", got)
	}
	for name, other := range map[string]string{
		"space":       string(raw) + " ",
		"cut":         string(raw[:len(raw)-1]),
		"upper case":  string(bytes.Replace(raw, []byte(`"hash":"0101`), []byte(`"hash":"0A01`), 1)),
		"another":     `{"total":1,"events":[]}`,
		"sign":        `{"events":[],"total":-1}`,
		"zero before": `{"events":[],"total":01}`,
		"total":       `{"events":[],"total":2147483648}`,
		"number":      string(bytes.Replace(raw, []byte(`"rec_num":8`), []byte(`"rec_num":2147483648`), 1)),
		"nothing":     ``,
	} {
		if decodePlain([]byte(other), &got) {
			t.Errorf("%s: taken", name)
		}
	}
	if !reflect.DeepEqual(got, page) {
		t.Error("what wasn't taken left a trace")
	}
}

// The plain decoder reads what the careful reader and encoding/json read.
func FuzzEventLogPage(f *testing.F) {
	for _, n := range []int{0, 1, 5, 20} {
		raw, err := json.Marshal(somePage(n))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) { samePlainPage(t, raw) })
}

func samePlainPage(t *testing.T, raw []byte) (taken bool) {
	var ours, theirs CCEventLog
	if !decodePlain(raw, &ours) {
		return false
	}
	if err := json.Unmarshal(raw, &theirs); err != nil {
		t.Fatalf("%q: encoding/json refuses it: %v", raw, err)
	}
	var careful CCEventLog
	if err := careful.decode(raw); err != nil || !reflect.DeepEqual(careful, theirs) {
		t.Fatalf("%q: %+v, the careful reader has %+v, %v", raw, theirs, careful, err)
	}
	if a, b := fmt.Sprintf("%v", ours), fmt.Sprintf("%v", theirs); a != b {
		t.Fatalf("%q: %s, encoding/json has %s", raw, a, b)
	}
	return true
}

// A page is decoded into memory that is allocated once; each record adds only
// its maps.
func TestPlainPageAllocates(t *testing.T) {
	page, records := CCEventLog{Total: 500}, 500.0
	for i := range 500 {
		page.Events = append(page.Events, somePage(9).Events[3+4*(i%2)])
	}
	raw, err := json.Marshal(page)
	if err != nil {
		t.Fatal(err)
	}
	n := testing.AllocsPerRun(20, func() {
		var got CCEventLog
		if !decodePlain(raw, &got) {
			t.Error("not as the daemon writes it")
		}
	})
	t.Logf("%.2f allocations for a record", n/records)
	if n > 2*records+10 {
		t.Errorf("%.2f allocations for a record", n/records)
	}
}

func BenchmarkEventLogDecode(b *testing.B) {
	page := somePage(9)
	for len(page.Events) < 1000 {
		page.Events = append(page.Events, page.Events[len(page.Events)%4+3])
	}
	raw, err := json.Marshal(page)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		var got CCEventLog
		if !decodePlain(raw, &got) {
			b.Fatal("not as the daemon writes it")
		}
	}
}
