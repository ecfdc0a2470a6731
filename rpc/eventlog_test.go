package rpc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"
)

func somePage(n int) CCEventLog {
	page := CCEventLog{Events: []EventRecord{}, Total: n + 7, Next: n}
	for i := range n {
		r := EventRecord{
			RecNum: i, IMRIndex: i % 4, EventType: 0x80000000 + uint32(i), EventSize: i % 100,
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

// What a record writes is what encoding/json writes.
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
