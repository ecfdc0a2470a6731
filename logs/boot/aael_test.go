package boot

import (
	"bytes"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"

	"github.com/cima-project/cima/logs/logstest"
)

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

// Trustee's log has the boot's events, then records, of which some show only a digest.
func TestTrusteeLog(t *testing.T) {
	boot := Encode(someEvents()[:4])
	mine, others := event(4, EvEventTag, "LEAA\x0c\x00\x00\x00cima exec {}"), event(4, EvEventTag, "of another container")
	others.Data = []byte(RedactedData)
	records := AppendEvent(AppendEvent(nil, mine), others)
	for _, padding := range [][]byte{nil, bytes.Repeat([]byte{0xFF}, 99), make([]byte, 99)} {
		joined, err := TrusteeLog(append(bytes.Clone(boot), padding...), records)
		if err != nil || !bytes.HasPrefix(joined, boot) || !strings.HasSuffix(string(joined), logEnd) {
			t.Fatalf("%q, %v", joined, err)
		}
		log := mustParse(t, joined)
		registers, err := log.Replay()
		want := extended(extended([48]byte{}, mine.Digest), others.Digest)
		if err != nil || registers[3] != want || log.Len() != 6 {
			t.Errorf("%d events, RTMR3 %s, %v", log.Len(), registers[3], err)
		}
		for i, e := range log.UnverifiedEvents() {
			if e.Redacted() != (i == 5) || i >= 4 && digestCoversData(e) != (i == 4) {
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

func FuzzAAEL(f *testing.F) {
	f.Add([]byte("LEAA\x0a\x00\x00\x00a.b c {\"d\"}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := ParseAAEL(b)
		if text := a.Domain + " " + a.Operation + " " + a.Content; err == nil && text != string(b[TagHeaderLen:]) {
			t.Errorf("%q read as %q", b, text)
		}
	})
}

// expected.json is Trustee's reading of this log.
func TestSharedAAELAsTrusteeReadsIt(t *testing.T) {
	var want struct {
		Events []struct {
			Index    uint32 `json:"index"`
			TypeName string `json:"type_name"`
			Event    string `json:"event"`
			Matches  bool   `json:"digest_matches_event"`
			Digests  []struct{ Alg, Digest string }
			Details  struct {
				Data struct{ Domain, Operation string }
			}
		} `json:"uefi_event_logs"`
	}
	if err := json.Unmarshal(logstest.SharedFile(t, "alibaba-aael/expected.json"), &want); err != nil {
		t.Fatal(err)
	}
	log := mustParse(t, logstest.SharedFile(t, "alibaba-aael/ccel.bin"))
	if log.Len() != len(want.Events) || log.Len() == 0 {
		t.Fatalf("%d events, expected %d", log.Len(), len(want.Events))
	}
	for i, e := range log.UnverifiedEvents() {
		w := want.Events[i]
		data, err := base64.StdEncoding.DecodeString(w.Event)
		if err != nil {
			t.Fatal(err)
		}
		if e.MR != w.Index || TypeName(e.Type) != w.TypeName || !bytes.Equal(e.Data, data) ||
			len(w.Digests) != 1 || w.Digests[0].Alg != "SHA-384" || hex.EncodeToString(e.Digest[:]) != w.Digests[0].Digest {
			t.Errorf("event %d differs: %d %s %x", i, e.MR, TypeName(e.Type), e.Digest)
		}
		if digestCoversData(e) != w.Matches {
			t.Errorf("event %d: digest covers data: %v, by Trustee %v", i, digestCoversData(e), w.Matches)
		}
		if a, err := ParseAAEL(e.Data); err == nil && (a.Domain != w.Details.Data.Domain || a.Operation != w.Details.Data.Operation) {
			t.Errorf("event %d: %+v", i, a)
		}
	}
}

func digestCoversData(e Event) bool { return sha512.Sum384(e.Data) == e.Digest }
