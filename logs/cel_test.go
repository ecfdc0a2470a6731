package logs

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/google/go-eventlog/cel"
)

func runtimeRecords(t *testing.T) []CELRecord {
	var records []CELRecord
	for i, op := range operations() {
		e := mustEvent(t, op)
		records = append(records, CELRecord{Number: uint64(i), RTMR: 3, Digest: e.Digest(), Type: EvEventTag, Data: e.Bytes()})
	}
	return records
}

// replayCEL extends the registers by a log, and counts its records and the lines
// that are none.
func replayCEL(src io.Reader, registers *Registers) (records, skipped int) {
	for r, err := range UnverifiedCELRecords(src) {
		if err != nil {
			skipped++
			continue
		}
		registers[r.RTMR] = Extend(registers[r.RTMR], r.Digest)
		records++
	}
	return records, skipped
}

func replayed(records []CELRecord) Registers {
	var r Registers
	for _, c := range records {
		r[c.RTMR] = Extend(r[c.RTMR], c.Digest)
	}
	return r
}

// The TLV form as google/go-eventlog reads it.
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
	for r, err := range UnverifiedCELRecords(bytes.NewReader(lines)) {
		if err != nil || r.Digest != want[i].Digest || r.Number != uint64(i) || r.RTMR != 3 ||
			!strings.Contains(string(r.Content), hex.EncodeToString(want[i].Data)) || !strings.Contains(string(r.Content), `"EV_EVENT_TAG"`) {
			t.Errorf("record %d: %+v, %v", i, r, err)
		}
		i++
	}
	var registers Registers
	if n, skipped := replayCEL(bytes.NewReader(lines), &registers); n != len(want) || skipped != 0 || registers != replayed(want) {
		t.Errorf("%d records, %d skipped, %x", n, skipped, registers)
	}
}

// Lines as systemd writes them, and lines as it doesn't.
func TestSystemdLog(t *testing.T) {
	d := strings.Repeat("ab", 48)
	digest := `"digests":[{"hashAlg":"sha256","digest":"00"},{"hashAlg":"sha384","digest":"` + d + `"}]`
	content := `"content_type":"systemd","content":{"string":"enter-initrd","bootId":"0123","timestamp":123,"eventType":"phase"}`
	good := "\x1e{\"rtmr\":2,\"mapped_pcr\":11," + digest + "," + content + "}\n"
	log := good +
		"\x1e{\"pcr\":7," + digest + "}\n" + "\n" +
		"not JSON\n" +
		"{\"rtmr\":4," + digest + "}\n" +
		"{\"pcr\":0," + digest + "}\n" +
		"{\"pcr\":16," + digest + "}\n" +
		"{" + digest + "}\n" +
		"{\"rtmr\":2,\"digests\":[]}\n" +
		"{\"rtmr\":2,\"digests\":[{\"hashAlg\":\"sha384\",\"digest\":\"abcd\"}]}\n" +
		"{\"rtmr\":2,\"digests\":[{\"hashAlg\":\"sha384\",\"digest\":\"" + d + "\"},{\"hashAlg\":\"sha384\",\"digest\":\"" + d + "\"}]}\n" +
		"{\"rtmr\":2,\"digests\":[" + strings.Repeat(`{"hashAlg":"sha1","digest":"00"},`, 16) + `{"hashAlg":"sha384","digest":"` + d + "\"}]}\n" +
		good
	var want Registers
	x := [48]byte(bytes.Repeat([]byte{0xab}, 48))
	want[2] = Extend(Extend(want[2], x), x)
	want[0] = Extend(want[0], x)
	var got Registers
	if n, skipped := replayCEL(strings.NewReader(log), &got); n != 3 || skipped != 9 || got != want {
		t.Errorf("%d records, %d skipped, %x", n, skipped, got)
	}
	for r, err := range UnverifiedCELRecords(strings.NewReader(good)) {
		if err != nil || r.ContentType != "systemd" || !strings.Contains(string(r.Content), "enter-initrd") {
			t.Errorf("%+v, %v", r, err)
		}
	}
	if _, skipped := replayCEL(strings.NewReader(strings.Repeat("x", maxCELRecord+1)), &got); skipped != 1 {
		t.Error("a line too long passed unnoticed")
	}
}

// White space and order are free; a member twice, of another type or spelled with
// escapes is none that anybody writes.
func TestCELMembers(t *testing.T) {
	d := strings.Repeat("ab", 48)
	const rtmr, more = `"rtmr":2`, `"content":{"padding":"xxxxxxxxxxxxxxxxxxxxxxxx"}`
	list := `"digests":[{"hashAlg":"sha384","digest":"` + d + `"}]`
	for line, good := range map[string]bool{
		rtmr + "," + list:   true,
		list + " , " + rtmr: true,
		`"rtmr" : 2 , "digests" : [ { "digest" : "` + d + `" , "hashAlg" : "sha384" } , { "hashAlg" : "sha1" , "digest" : "00" } ]`: true,
		rtmr + `,"recnum":null,"pcr":null,"content_type":null,` + list:                                                              true,
		rtmr + `,"content_type":"a",` + list: true,

		rtmr + `,"rtmr":2,` + list:                                               false,
		rtmr + `,"digests":[],` + list:                                           false,
		rtmr + "," + list + "," + list:                                           false,
		`"rtmr":"2",` + list:                                                     false,
		`"rtmr":2.0,` + list:                                                     false,
		`"rtmr":-2,` + list:                                                      false,
		`"rtmr":4294967298,` + list:                                              false,
		`"pcr":4294967303,` + list:                                               false,
		`"rtmr":18446744073709551618,` + list:                                    false,
		rtmr + `,"recnum":"0",` + list:                                           false,
		rtmr + `,"content_type":1,` + list:                                       false,
		rtmr + `,"content_type":"a","content_type":"b",` + list:                  false,
		rtmr + `,"content_type":"\u0061",` + list:                                false,
		rtmr + `,"digests":{"hashAlg":"sha384","digest":"` + d + `"}`:            false,
		rtmr + `,"digests":[1,{"hashAlg":"sha384","digest":"` + d + `"}]`:        false,
		rtmr + `,"digests":[{"hashAlg":"sha384","digest":"` + d + `","more":1}]`: false,
		rtmr + `,"digests":[{"hashAlg":"sha384","digest":"` + d + `","digest":"` + d + `"}]`:   false,
		rtmr + `,"digests":[{"hashAlg":"sh\u00613842","digest":"` + d + `"}]`:                  false,
		rtmr + `,"digests":[{"hashAlg":"sha384","digest":"` + strings.Repeat("xy", 48) + `"}]`: false,
		rtmr + `,"digests":[{"hashAlg":"sha384"},{"digest":"` + d + `"}]`:                      false,
		rtmr + `,"digests":[[{"hashAlg":"sha384","digest":"` + d + `"}]]`:                      false,
	} {
		var registers Registers
		n, skipped := replayCEL(strings.NewReader("{"+line+","+more+"}\n"), &registers)
		if n+skipped != 1 || (n == 1) != good {
			t.Errorf("%d records, %d skipped, good %t: %s", n, skipped, good, line)
		}
		if good && hex.EncodeToString(registers[2][:]) != hex.EncodeToString(replayOnce(d)) {
			t.Errorf("another digest: %s", line)
		}
	}
}

func replayOnce(digest string) []byte {
	b, _ := hex.DecodeString(digest)
	value := Extend([48]byte{}, [48]byte(b))
	return value[:]
}

func TestAAEL(t *testing.T) {
	want := AAEL{"coco.com", "some-operation", `{"a":"b c"}`}
	if got, err := ParseAAEL([]byte("LEAA\x23\x00\x00\x00coco.com some-operation {\"a\":\"b c\"}")); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"", "LEAA", "AAEL\x00\x00\x00\x00", "LEAA\x05\x00\x00\x00a b", "LEAA\x03\x00\x00\x00a b"} {
		if a, err := ParseAAEL([]byte(bad)); err == nil {
			t.Errorf("%q is %+v", bad, a)
		}
	}
}

// The log that Trustee reads: boot events, ours, and others' by digest only.
func TestTrusteeLog(t *testing.T) {
	boot := EncodeBootLog(someEvents()[:4])
	mine, others := mustEvent(t, OpExec), mustEvent(t, OpLaunch)
	records := redactedRecord(aaelRecord(nil, mine), others.Digest())
	for _, padding := range [][]byte{nil, bytes.Repeat([]byte{0xFF}, 99), make([]byte, 99)} {
		joined, err := TrusteeLog(append(bytes.Clone(boot), padding...), records)
		if err != nil || !bytes.HasPrefix(joined, boot) || !strings.HasSuffix(string(joined), logEnd) {
			t.Fatalf("%q, %v", joined, err)
		}
		log := mustParse(t, joined)
		registers, err := log.Replay()
		want := Extend(Extend([48]byte{}, mine.Digest()), others.Digest())
		if err != nil || registers[3] != want || log.Len() != 6 {
			t.Errorf("%d events, RTMR3 %x, %v", log.Len(), registers[3], err)
		}
		for i, e := range log.UnverifiedEvents() {
			if e.Redacted() != (i == 5) || i >= 4 && e.DigestCoversData() != (i == 4) {
				t.Errorf("event %d: redacted %v", i, e.Redacted())
			}
			if _, err := ParseAAEL(e.Data); i == 5 && err == nil {
				t.Error("a redacted record reads as AAEL")
			}
		}
	}
	if _, err := TrusteeLog(boot[:40], nil); err == nil {
		t.Error("a broken boot log was joined")
	}
}

// aaelRecord appends an event of the runtime log as a record of RTMR3.
func aaelRecord(b []byte, e Event) []byte {
	return AppendBootEvent(b, BootEvent{MR: 4, Type: EvEventTag, Digest: e.Digest(), Data: e.Bytes()})
}

func redactedRecord(b []byte, digest [48]byte) []byte {
	return AppendBootEvent(b, BootEvent{MR: 4, Type: EvEventTag, Digest: digest, Data: []byte(RedactedData)})
}
