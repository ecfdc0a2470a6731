package form

import (
	"bytes"
	"testing"

	"github.com/google/go-eventlog/cel"
)

// TestCELTLV reads the form with google/go-eventlog.
func TestCELTLV(t *testing.T) {
	e := evidence(t, bootLog(false), osLog())
	text, err := Encode(e, CELTLV)
	if err != nil {
		t.Fatal(err)
	}
	log, err := cel.DecodeToCEL(bytes.NewBuffer(text))
	if err != nil {
		t.Fatal(err)
	}
	want, _ := eventsOf(e)
	if len(log.Records()) != len(want) {
		t.Fatalf("%d records of %d", len(log.Records()), len(want))
	}
	for i, r := range log.Records() {
		if r.RecNum != uint64(i) || int(r.Index) != want[i].RTMR+1 || r.IndexType != cel.CCMRType {
			t.Errorf("record %d: %+v", i, r)
		}
	}
}
