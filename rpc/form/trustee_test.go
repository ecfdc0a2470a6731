package form

import (
	"bytes"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

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
		if why := trusteeParses(kind, data); why != "" {
			t.Fatalf("type %#x with %q %s: Trustee refuses the whole evidence", kind, data, why)
		}
	}
}

// trusteeParses says what in an event's data Trustee's readers refuse, or end at.
func trusteeParses(kind uint32, data []byte) string {
	u64 := func(at int) int { return int(binary.LittleEndian.Uint64(data[at:])) }
	switch kind {
	case 1, 5, 0xc, 0x12, 0x80000007:
		if !utf8.Valid(data) {
			return "is not UTF-8"
		}
	case 6:
		if len(data) < 8 || int(binary.LittleEndian.Uint32(data[4:])) > len(data)-8 {
			return "has a missing or wrong length"
		}
		text := string(data[8:][:binary.LittleEndian.Uint32(data[4:])])
		if words := strings.SplitN(text, " ", 3); string(data[:4]) == "LEAA" && (len(words) != 3 || !utf8.ValidString(text)) {
			return "must have two spaces"
		}
	case 0xd:
		if len(data) < 2 {
			return "is too short"
		}
	case 0x80000001, 0x80000002, 0x8000000c, 0x800000e0:
		if len(data) < 32 || 32+2*u64(16)+u64(24) > len(data) {
			return "is no variable"
		}
	case 0x80000003:
		if len(data) < 32 || u64(24) != 0 && (u64(24) < 8 || 32+u64(24)-4 > len(data)) {
			return "is no image"
		}
	case 0x8000000a, 0x8000000b:
		if len(data) == 0 || data[0] == 0 || int(data[0]) > len(data) {
			return "has no description"
		}
	}
	return ""
}

// TestTrusteeRetypes: data that are not as their type has them, one at a time, go out as
// another type, with their digest.
func TestTrusteeRetypes(t *testing.T) {
	tag := func(id uint32, size uint32, text string) string {
		b := binary.LittleEndian.AppendUint32(nil, id)
		return string(binary.LittleEndian.AppendUint32(b, size)) + text
	}
	variable := func(units, size uint64, rest string) string {
		b := binary.LittleEndian.AppendUint64(make([]byte, 16), units)
		return string(binary.LittleEndian.AppendUint64(b, size)) + rest
	}
	image := func(size uint64, path string) string {
		return string(binary.LittleEndian.AppendUint64(make([]byte, 24), size)) + path
	}
	for name, c := range map[string]struct {
		kind    uint32
		data    string
		retyped bool
	}{
		"tag, the text alone (5.19)":    {boot.EvEventTag, "LOADED_IMAGE::LoadOptions", true},
		"tag, too short":                {boot.EvEventTag, "\x01\x02", true},
		"tag, a length beyond its end":  {boot.EvEventTag, tag(1, 9, "12345678"), true},
		"tag, as it should":             {boot.EvEventTag, tag(0x8F3B22EC, 8, "12345678"), false},
		"AAEL of one word":              {boot.EvEventTag, tag(boot.TagAAEL, 3, "one"), true},
		"AAEL, not UTF-8":               {boot.EvEventTag, tag(boot.TagAAEL, 5, "a b \xff"), true},
		"AAEL, not UTF-8 behind it":     {boot.EvEventTag, tag(boot.TagAAEL, 5, "a b c\xff"), false},
		"action, not UTF-8":             {boot.EvEFIAction, "\xff", true},
		"action":                        {boot.EvEFIAction, "Exit", false},
		"post code, not UTF-8":          {boot.EvPostCode, "\xc0\x80", true},
		"IPL of one byte":               {boot.EvIPL, "x", true},
		"IPL of Google's, cut":          {boot.EvIPL, ".\x00a", true},
		"IPL, not UTF-8":                {boot.EvIPL, "\xff\xff", false},
		"variable, cut":                 {boot.EvEFIVariableBoot, variable(1, 0, "a"), true},
		"variable, a length of 2^63":    {boot.EvEFIVariableBoot, variable(1<<63, 0, "ab"), true},
		"variable, half a pair":         {boot.EvEFIVariableAuthority, variable(1, 0, "\x00\xd8"), true},
		"variable":                      {boot.EvEFIVariableBoot2, variable(1, 1, "a\x00b"), false},
		"variable, a pair":              {boot.EvEFIVariableBoot2, variable(2, 0, "\x3d\xd8\x00\xde"), false},
		"image, cut":                    {boot.EvEFIBootServicesApplication, image(12, "\x04\x04"), true},
		"image, a node of 3 bytes":      {boot.EvEFIBootServicesApplication, image(8, "\x04\x04\x03\x00\x7f\xff\x04\x00"), true},
		"image, a path of 3 bytes":      {boot.EvEFIBootServicesApplication, image(3, "abc"), true},
		"image":                         {boot.EvEFIBootServicesApplication, image(8, "\x04\x04\x04\x00\x7f\xff\x04\x00"), false},
		"image without a path":          {boot.EvEFIBootServicesApplication, image(0, ""), false},
		"tables without a description":  {boot.EvEFIHandoffTables2, "\x00abc", true},
		"blob, not UTF-8":               {boot.EvEFIPlatformFirmwareBlob2, "\x03\xff\xff", true},
		"blob":                          {boot.EvEFIPlatformFirmwareBlob2, "\x03ab", false},
		"a type that Trustee has not":   {boot.EvPostCode2, "x", true},
		"a type without a reader":       {boot.EvEFIHCRTMEvent, "\xff", false},
		"SPDM, beyond its list":         {boot.EvEFISPDMDevicePolicy, "x", true},
		"CIMA 0.5's type for IMA lines": {boot.EvIMAMeasurement, "x", true},
	} {
		e := evidence(t, boot.Encode([]boot.Event{{MR: 2, Type: c.kind, Digest: sha512.Sum384([]byte(c.data)), Data: []byte(c.data)}}))
		text, err := Encode(e, Trustee)
		if err != nil {
			t.Fatal(err)
		}
		form, err := Decode(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := form.Events[0]; (got.Type == boot.EvUnused) != c.retyped || string(got.Data) != c.data || got.Digest != sha512.Sum384([]byte(c.data)) {
			t.Errorf("%s: went out as %s, %q", name, boot.TypeName(got.Type), got.Data)
		}
		var plain map[string][]byte
		if err := json.Unmarshal(text, &plain); err != nil {
			t.Fatal(err)
		}
		trusteeReplay(t, plain["cc_eventlog"])
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
