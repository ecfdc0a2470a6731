package logs

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-eventlog/cel"

	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/logs/canonical"
)

func runtimeRecords(t *testing.T) []CELRecord {
	var records []CELRecord
	for i, op := range operations() {
		e := mustEvent(t, op)
		records = append(records, CELRecord{Number: uint64(i), RTMR: 3, Digest: e.Digest(), Type: boot.EvEventTag, Data: e.Bytes()})
	}
	return records
}

func replayed(records []CELRecord) boot.Registers {
	var r boot.Registers
	for _, c := range records {
		r[c.RTMR] = canonical.Digest(r[c.RTMR]).Extend(c.Digest)
	}
	return r
}

// google/go-eventlog must read the TLV form.
func TestCELTLVAsGoEventlogReadsIt(t *testing.T) {
	var tlv []byte
	for _, r := range runtimeRecords(t) {
		tlv = AppendCELTLV(tlv, r)
	}
	log, err := cel.DecodeToCEL(bytes.NewBuffer(tlv))
	if err != nil {
		t.Fatal(err)
	}
	want := runtimeRecords(t)
	if len(log.Records()) != len(want) {
		t.Fatalf("%d records of %d", len(log.Records()), len(want))
	}
	for i, r := range log.Records() {
		if r.RecNum != uint64(i) || r.Index != 4 || r.IndexType != cel.CCMRType || len(r.Digests) != 1 || r.Content.Type != celPCClient {
			t.Errorf("record %d: %+v", i, r)
		}
		for _, d := range r.Digests {
			if !bytes.Equal(d, want[i].Digest[:]) {
				t.Errorf("record %d: digest %x", i, d)
			}
		}
	}
}

func TestCELJSONReadsBack(t *testing.T) {
	want := runtimeRecords(t)
	var lines []byte
	for i, r := range want {
		line := AppendCELJSON(nil, r)
		if !json.Valid(line) {
			t.Fatalf("not JSON: %s", line)
		}
		if i%2 == 0 {
			lines = append(lines, 0x1E)
		}
		lines = append(append(lines, line...), '\n')
	}
	i := 0
	for r, err := range unverifiedCELRecords(bytes.NewReader(lines)) {
		if err != nil || r.Digest != want[i].Digest || r.Number != uint64(i) || r.RTMR != 3 ||
			!strings.Contains(string(r.content), hex.EncodeToString(want[i].Data)) || !strings.Contains(string(r.content), `"EV_EVENT_TAG"`) {
			t.Errorf("record %d: %+v, %v", i, r, err)
		}
		i++
	}
	var registers boot.Registers
	if n, skipped := replayCEL(bytes.NewReader(lines), &registers); n != len(want) || skipped != 0 || registers != replayed(want) {
		t.Errorf("%d records, %d skipped, %s", n, skipped, registers)
	}
}

// aaelRecord appends an event of the runtime log as a record of RTMR3.
func aaelRecord(b []byte, e Event) []byte {
	return boot.AppendEvent(b, boot.Event{MR: 4, Type: boot.EvEventTag, Digest: e.Digest(), Data: e.Bytes()})
}

func redactedRecord(b []byte, digest [48]byte) []byte {
	return boot.AppendEvent(b, boot.Event{MR: 4, Type: boot.EvEventTag, Digest: digest, Data: []byte(boot.RedactedData)})
}

// UEFI 2.10 section 38.4.1.
func TestRTMROf(t *testing.T) {
	for pcr, want := range []int{-1, 0, 1, 1, 1, 1, 1, 0, 2, 2, 2, 2, 2, 2, 2, 2, -1, -1} {
		if got := rtmrOf(uint32(pcr)); got != want {
			t.Errorf("PCR %d maps to %d, want %d", pcr, got, want)
		}
	}
}
