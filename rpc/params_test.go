package rpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
)

// encoding/json reads what DecodeParams accepts in the same way, and writing
// and reading it again changes nothing.
func FuzzParams(f *testing.F) {
	f.Add([]byte(`{"nonce":"AAECAwQFBgc=","user_data":"AAAA","format":"cima","shared":true}`))
	f.Add([]byte(`{"index":3,"algo_id":12}`))
	f.Add([]byte(`{"domain":"a","operation":"b","content":"\u00e9\ud83d\ude00"}`))
	f.Add([]byte(`{"start":1,"count":1024}`))
	f.Add([]byte(`{"nonce":"AAECAwQFBgc=","Nonce":"AAECAwQFBgc="}`))
	f.Fuzz(func(t *testing.T, data []byte) { sameParams(t, data) })
}

func sameParams(t *testing.T, data []byte) (taken bool) {
	none := compare(t, data, new(NoParams), new(NoParams), new(NoParams))
	register := compare(t, data, new(CCMeasurementParams), new(CCMeasurementParams), &CCMeasurementParams{AlgoID: AlgoSHA384})
	page := compare(t, data, new(CCEventLogParams), new(CCEventLogParams), new(CCEventLogParams))
	report := compare(t, data, new(CCReportParams), new(CCReportParams), new(CCReportParams))
	evidence := compare(t, data, new(EvidenceParams), new(EvidenceParams), &EvidenceParams{Format: FormatCIMA})
	extend := compare(t, data, new(ExtendParams), new(ExtendParams), new(ExtendParams))
	return none || register || page || report || evidence || extend
}

// compare reads data with DecodeParams into ours and with encoding/json into
// theirs, which starts with the defaults.
func compare[P Params](t *testing.T, data []byte, ours, again, theirs P) (taken bool) {
	err := DecodeParams(data, ours)
	if err != nil {
		var e *Error
		if !errors.As(err, &e) || e.Code != CodeInvalidParams {
			t.Fatalf("got %T: %v", err, err)
		}
		return false
	}
	if len(data) > 0 {
		if err := json.Unmarshal(data, theirs); err != nil {
			t.Fatalf("encoding/json refuses %q: %v", data, err)
		}
	}
	a, _ := json.Marshal(ours)
	b, _ := json.Marshal(theirs)
	if !bytes.Equal(a, b) {
		t.Fatalf("%q: we read %s, encoding/json reads %s", data, a, b)
	}
	if err := DecodeParams(a, again); err != nil {
		t.Fatalf("%q: read, written as %s, and refused: %v", data, a, err)
	}
	return true
}

func BenchmarkDecodeParams(b *testing.B) {
	raw := []byte(`{"nonce":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","format":"cima"}`)
	b.ReportAllocs()
	for b.Loop() {
		var p EvidenceParams
		if err := DecodeParams(raw, &p); err != nil {
			b.Fatal(err)
		}
	}
}
