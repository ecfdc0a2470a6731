package form

import (
	"bytes"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"strings"
	"testing"

	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/logs/canonical"
	"github.com/cima-project/cima/rpc"
)

// TestTrusteeForm compares the form field by field with Trustee's rules: its
// parser accepts only these types and algorithms, extends by every event, and
// needs all four registers to start from zero.
func TestTrusteeForm(t *testing.T) {
	for name, e := range map[string]*rpc.Evidence{
		"no action": evidence(t, boot.Encode([]boot.Event{
			{MR: 1, Type: boot.EvNoAction, Digest: sha512.Sum384(nil)}, {MR: 1, Type: boot.EvSeparator, Digest: sha512.Sum384([]byte("x")), Data: []byte("x")},
			{MR: 2, Type: boot.EvSeparator, Digest: sha512.Sum384([]byte("x")), Data: []byte("x")}})),
		"plain": evidence(t, bootLog(false)), "awkward": evidence(t, bootLog(true)), "with IMA": evidence(t, bootLog(true), osLog()),
	} {
		text, err := Encode(e, Trustee)
		if err != nil {
			t.Fatal(err)
		}
		var form map[string]string
		if err := json.Unmarshal(text, &form); err != nil || len(form) != 2 || form["quote"] != base64.StdEncoding.EncodeToString(e.Quote) {
			t.Errorf("%s: %s, %v", name, text, err)
		}
		log, err := base64.StdEncoding.Strict().DecodeString(form["cc_eventlog"])
		if err != nil {
			t.Fatal(err)
		}
		got, matches := trusteeReplay(t, log)
		events, err := eventsOf(e)
		if err != nil {
			t.Fatal(err)
		}
		var want [4]canonical.Digest
		for _, e := range events {
			want[e.RTMR] = want[e.RTMR].Extend(e.Digest)
		}
		if got != want {
			t.Errorf("%s: replays to %s, not %s", name, got, want)
		}
		if matches < 4 { // of boot events and own runtime events: their data are the hashed bytes
			t.Errorf("%s: only %d digests match their events", name, matches)
		}
	}
}

// trusteeReplay reads a log as Trustee's deps/eventlog does, without package
// logs.
func trusteeReplay(t *testing.T, b []byte) (rtmr [4]canonical.Digest, matches int) {
	t.Helper()
	u32 := func() (n uint32) { n = binary.LittleEndian.Uint32(b); b = b[4:]; return n }
	b = b[8+20:]
	b = b[4+binary.LittleEndian.Uint32(b):] // spec-id event
	for {
		if stop := binary.LittleEndian.Uint64(b); stop == 0 || stop == 1<<64-1 {
			return rtmr, matches
		}
		mr, kind, count := u32(), u32(), u32()
		if !(kind <= 0x12 || kind >= 0x80000000 && kind <= 0x8000000C || kind == 0x80000010 || kind >= 0x800000E0 && kind <= 0x800000E2) {
			t.Fatalf("type %#x is not in the list: Trustee refuses the whole evidence", kind)
		}
		if count != 1 || binary.LittleEndian.Uint16(b) != 0x0C {
			t.Fatalf("%d digests, algorithm %#x", count, binary.LittleEndian.Uint16(b))
		}
		digest := [48]byte(b[2:])
		b = b[2+48:]
		n := u32()
		data := b[:n]
		b = b[n:]
		if mr >= 1 && mr <= 4 { // EV_NO_ACTION too
			both := append(rtmr[mr-1][:], digest[:]...)
			rtmr[mr-1] = sha512.Sum384(both)
		}
		if sha512.Sum384(data) == digest {
			matches++
		}
		if kind != 6 {
			continue
		}
		if len(data) < 8 || int(binary.LittleEndian.Uint32(data[4:])) > len(data)-8 {
			t.Fatalf("tagged event %x has a missing or wrong length: Trustee refuses the whole evidence", data)
		}
		text := string(data[8:])
		if strings.ToValidUTF8(text, "") != text {
			t.Fatalf("tagged event %q is not UTF-8: Trustee refuses the whole evidence", text)
		}
		if words := strings.SplitN(text, " ", 3); string(data[:4]) == "LEAA" && len(words) != 3 {
			t.Fatalf("AAEL %q must have two spaces: Trustee refuses the whole evidence", text)
		}
	}
}

func TestTrusteeRequest(t *testing.T) {
	e := evidence(t, bootLog(false))
	text, err := Encode(e, TrusteeRequest)
	if err != nil {
		t.Fatal(err)
	}
	var form struct {
		Requests []struct {
			TEE         string `json:"tee"`
			Evidence    string `json:"evidence"`
			RuntimeData struct {
				Structured json.RawMessage `json:"structured"`
			} `json:"runtime_data"`
			Hash string `json:"runtime_data_hash_algorithm"`
		} `json:"verification_requests"`
		Policies []string `json:"policy_ids"`
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&form); err != nil || len(form.Requests) != 1 || form.Policies == nil {
		t.Fatalf("%s: %v", text, err)
	}
	one := form.Requests[0]
	inner, err := base64.RawURLEncoding.Strict().DecodeString(one.Evidence)
	if plain, _ := Encode(e, Trustee); err != nil || !bytes.Equal(inner, plain) || one.TEE != "tdx" || one.Hash != "sha512" {
		t.Errorf("%v in %s", err, text)
	}
	got, err := rpc.ReportData(one.RuntimeData.Structured) // as Trustee computes it
	want, _ := rpc.ReportData(e.Claims)
	if err != nil || got != want {
		t.Errorf("REPORTDATA %x, not %x, %v", got, want, err)
	}
}
