package logs

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"testing"
)

func TestSharedQuotes(t *testing.T) {
	gcp, err := ReplayBootLog(sharedFile(t, "gcp-cos113/ccel.bin"))
	if err != nil || gcp != quoteRTMRs(sharedFile(t, "gcp-cos113/quote.bin")) {
		t.Errorf("gcp-cos113: %x, %v", gcp, err)
	}
	api, err := ReplayBootLog(sharedFile(t, "evidence-api/ccel.bin"))
	if err != nil {
		t.Fatal(err)
	}
	quoted := quoteRTMRs(sharedFile(t, "evidence-api/quote.bin"))
	if api == quoted {
		t.Error("evidence-api: the boot log alone explains RTMR2, which IMA extended")
	}
	rtmr2 := NewRTMR2(api[2])
	if err := NewIMAReader(bytes.NewReader(sharedFile(t, "evidence-api/ima.ascii"))).Replay(rtmr2); err != nil {
		t.Fatal(err)
	}
	api[2] = [48]byte(rtmr2.Value())
	if api != quoted {
		t.Errorf("evidence-api with IMA: %x, want %x", api, quoted)
	}
}

func TestSharedBootLogs(t *testing.T) {
	for name, want := range map[string]int{"ubuntu-2404": 159, "gdc": 109, "td-shim": 5, "evidence-api": 98, "gcp-cos113": 43, "alibaba-aael": 87} {
		log := mustParse(t, sharedFile(t, name+"/ccel.bin"))
		if _, err := log.Replay(); err != nil || log.Len() != want {
			t.Errorf("%s: %d events, %v", name, log.Len(), err)
		}
		for i, e := range log.UnverifiedEvents() {
			if detail := e.Detail(); detail == "" && len(e.Data) > 0 {
				t.Errorf("%s: event %d (%s): no detail", name, i, EventTypeName(e.Type))
			}
		}
	}
}

// expected.json is what Trustee makes of this log.
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
	if err := json.Unmarshal(sharedFile(t, "alibaba-aael/expected.json"), &want); err != nil {
		t.Fatal(err)
	}
	log := mustParse(t, sharedFile(t, "alibaba-aael/ccel.bin"))
	if log.Len() != len(want.Events) || log.Len() == 0 {
		t.Fatalf("%d events, expected %d", log.Len(), len(want.Events))
	}
	for i, e := range log.UnverifiedEvents() {
		w := want.Events[i]
		data, err := base64.StdEncoding.DecodeString(w.Event)
		if err != nil {
			t.Fatal(err)
		}
		if e.MR != w.Index || EventTypeName(e.Type) != w.TypeName || !bytes.Equal(e.Data, data) ||
			len(w.Digests) != 1 || w.Digests[0].Alg != "SHA-384" || hex.EncodeToString(e.Digest[:]) != w.Digests[0].Digest {
			t.Errorf("event %d differs: %d %s %x", i, e.MR, EventTypeName(e.Type), e.Digest)
		}
		if e.DigestCoversData() != w.Matches {
			t.Errorf("event %d: digest covers data: %v, Trustee says %v", i, e.DigestCoversData(), w.Matches)
		}
		if a, err := ParseAAEL(e.Data); err == nil && (a.Domain != w.Details.Data.Domain || a.Operation != w.Details.Data.Operation) {
			t.Errorf("event %d: %+v", i, a)
		}
	}
}

func TestSharedIMALogs(t *testing.T) {
	for name, want := range map[string]int64{"evidence-api/ima-cgpath.ascii": 694, "keylime/ima-ng.ascii": 826, "evidence-api/ima.ascii": 1} {
		raw := sharedFile(t, name)
		r := NewIMAReader(bytes.NewReader(raw))
		r.Check = true
		matches := int64(0)
		var again []byte
		for e, err := range r.UnverifiedEntries() {
			if err != nil {
				t.Fatal(err)
			}
			if e.Matches {
				matches++
			}
			again = append(append(again, e.String()...), '\n')
		}
		if r.Entries != want || matches != want || r.Skipped+r.Violations+r.Mismatched != 0 {
			t.Errorf("%s: %d of %d template hashes recompute, expected %d", name, matches, r.Entries, want)
		}
		if !bytes.Equal(again, raw) {
			t.Errorf("%s: entries don't write as they were read", name)
		}
	}
}
