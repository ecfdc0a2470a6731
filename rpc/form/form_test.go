package form

import (
	"bytes"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/rpc"
)

func event(t testing.TB, operation, container, body string) logs.Event {
	t.Helper()
	c := logs.Content{Measured: json.RawMessage(fmt.Sprintf(`{%q:%s}`, operation, body))}
	if container != "" {
		c.Container, c.Salt = container, base64.StdEncoding.EncodeToString([]byte("salt of sixteen."))
	}
	e, err := logs.NewEvent(operation, c)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

const imaLog = "10 " + "ab" + "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000" +
	" ima-ng sha256:00 /usr/bin/a b\n" +
	"10 000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000 ima-ng sha256:00 /x\n"

// bootLog is a boot log; an awkward one holds what Trustee refuses.
func bootLog(awkward bool) []byte {
	e := func(mr, kind uint32, data string) boot.Event {
		return boot.Event{MR: mr, Type: kind, Digest: sha512.Sum384([]byte(data)), Data: []byte(data)}
	}
	events := []boot.Event{
		e(1, boot.EvEFIVariableDriverConfig, "variable"), e(2, boot.EvSeparator, "\x00\x00\x00\x00"), e(3, boot.EvIPL, "kernel"), e(3, boot.EvIPL, ""),
	}
	if awkward {
		events = append(events, e(1, boot.EvNoAction, "extends nothing"), e(2, 0x13, "post code 2"), e(3, 0x08000001, "vendor"), e(0, boot.EvNoAction, "MRTD"))
	}
	return boot.Encode(events)
}

// evidence is a bundle in which one container's events are shown.
func evidence(t testing.TB, bootLog []byte, osLogs ...rpc.OSLog) *rpc.Evidence {
	t.Helper()
	hidden := [][48]byte{sha512.Sum384([]byte("one")), sha512.Sum384([]byte("two"))}
	digest := strings.Repeat("ab", 48)
	claims := fmt.Sprintf(`{"agent":%q,"boot_log":%q,"host":{"uid":0,"unit":"a\u0001.service"},"log":{"anchor":"rtmr3","count":4,"public":%q,"register":%q},"nonce":"AAECAwQFBgc=","profile":%q}`,
		digest, digest, digest, digest, rpc.ClaimsProfile)
	e := &rpc.Evidence{
		Profile: rpc.EvidenceProfile, TEE: "tdx", Quote: []byte("a quote"), Claims: json.RawMessage(claims),
		AgentSignature: bytes.Repeat([]byte{7}, 64), BootLog: bootLog, OSLogs: osLogs,
		RuntimeLog: []rpc.LogEntry{
			{Event: event(t, logs.OpStart, "", `{"version":"1"}`).Bytes()},
			{Digests: slices.Concat(hidden[0][:], hidden[1][:])},
			{Event: event(t, logs.OpExec, "c1", `{"path":"/bin/sh","sha384":"é"}`).Bytes()},
		},
	}
	bundle, err := e.AppendJSON(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := rpc.DecodeEvidence(bundle); err != nil {
		t.Fatal(err)
	}
	return e
}

func osLog() rpc.OSLog {
	return rpc.OSLog{Register: "rtmr2", Format: "ima-ascii", Entries: []byte(imaLog)}
}

// TestEachFormReadsBack: each form gives the same events, and the whole forms
// the same bundle.
func TestEachFormReadsBack(t *testing.T) {
	for name, e := range map[string]*rpc.Evidence{
		"plain": evidence(t, bootLog(false)), "awkward": evidence(t, bootLog(true)),
		"with IMA": evidence(t, bootLog(false), osLog()), "awkward with IMA": evidence(t, bootLog(true), osLog()),
	} {
		want, err := eventsOf(e)
		if err != nil {
			t.Fatal(err)
		}
		for _, form := range Names {
			text, err := Encode(e, form)
			if err != nil {
				t.Errorf("%s, %s: %v", name, form, err)
				continue
			}
			got, err := Decode(text)
			if err != nil {
				t.Errorf("%s, %s: %v", name, form, err)
				continue
			}
			if got.Form != form {
				t.Errorf("%s, %s: recognized as %s", name, form, got.Form)
			}
			if strings.HasPrefix(form, "trustee") { // types and data that Trustee doesn't read
				for i, w := range want {
					if !trusteeReads(w.Type, w.Data) && got.Events[i].Type == boot.EvUnused {
						got.Events[i].Type = w.Type
					}
				}
			}
			if diff := cmp.Diff(want, got.Events); diff != "" {
				t.Errorf("%s, %s: events differ: %s", name, form, diff)
			}
			whole := form == CIMA || form == CMW || form == CMWCBOR
			if (got.Evidence != nil) != whole || whole && !cmp.Equal(got.Evidence, e) {
				t.Errorf("%s, %s: the bundle differs: %+v", name, form, got.Evidence)
			}
			isCEL := form == CEL || form == CELTLV
			if !isCEL && string(got.Quote) != "a quote" || form == TrusteeRequest && !bytes.Equal(got.Claims, e.Claims) {
				t.Errorf("%s, %s: quote %q, claims %s", name, form, got.Quote, got.Claims)
			}
		}
	}
}

// TestLargeEvents: each form holds the largest event of the runtime log.
func TestLargeEvents(t *testing.T) {
	e := evidence(t, bootLog(false))
	large := event(t, logs.OpExtend, "c1", `{"content":"`+strings.Repeat("x", logs.MaxEvent-400)+`"}`)
	e.RuntimeLog = append(e.RuntimeLog, rpc.LogEntry{Event: large.Bytes()})
	for _, form := range Names {
		text, err := Encode(e, form)
		if err != nil {
			t.Fatal(err)
		}
		c, err := Decode(text)
		if err != nil || !bytes.Equal(c.Events[len(c.Events)-1].Data, large.Bytes()) {
			t.Errorf("%s: %v", form, err)
		}
	}
}

func TestRefused(t *testing.T) {
	e := evidence(t, bootLog(false))
	forms := map[string]string{}
	for _, f := range Names {
		text, err := Encode(e, f)
		if err != nil {
			t.Fatal(err)
		}
		forms[f] = string(text)
	}
	for name, text := range map[string]string{
		"nothing":                    "",
		"text":                       "hello",
		"an object":                  `{"hello":1}`,
		"bundle, a member":           strings.Replace(forms[CIMA], `"tee"`, `"Tee"`, 1),
		"CMW, cut":                   forms[CMW][:len(forms[CMW])-1],
		"CMW, another type":          strings.Replace(forms[CMW], "tag:", "tag:x", 1),
		"CMW, a media type":          strings.Replace(forms[CMW], "vnd.tcg.ccel", "octet-stream", 1),
		"CMW, an indicator":          strings.Replace(forms[CMW], ",4]", ",8]", 1),
		"CMW, a member more":         strings.Replace(forms[CMW], `"tee"`, `"more":["text/plain",""],"tee"`, 1),
		"CMW, a member twice":        strings.Replace(forms[CMW], `"tee"`, `"tee":["text/plain",""],"tee"`, 1),
		"CMW, a member less":         strings.Replace(forms[CMW], `"tee":["text/plain","dGR4",4],`, "", 1),
		"CBOR, cut":                  forms[CMWCBOR][:len(forms[CMWCBOR])-1],
		"CBOR, more":                 forms[CMWCBOR] + "\x00",
		"CBOR, count":                "\xaa" + forms[CMWCBOR][1:],
		"CBOR, indefinite":           "\xbf" + forms[CMWCBOR][1:],
		"CBOR, longer than it needs": "\xb8\x08" + forms[CMWCBOR][1:],
		"CBOR, another order":        strings.Replace(forms[CMWCBOR], "\x63tee", "\x66teeeee", 1),
		"Trustee, no log":            `{"quote":"YQ==","cc_eventlog":"YQ=="}`,
		"request, sha384":            strings.Replace(forms[TrusteeRequest], "sha512", "sha384", 1),
		"request, none":              `{"verification_requests":[],"policy_ids":[]}`,
		"CEL, a gap":                 strings.Replace(forms[CEL], `{"recnum":3`, `{"recnum":4`, 1),
		"CEL, a digest":              strings.Replace(forms[CEL], "sha384", "sha512", 1),
		"CEL, a type":                strings.Replace(forms[CEL], "EV_IPL", "EV_EPL", 1),
		"CEL, other content":         strings.Replace(forms[CEL], "pcclient_std", "ima_template", 1),
		"TLV, cut":                   forms[CELTLV][:len(forms[CELTLV])-1],
		"TLV, a register":            strings.Replace(forms[CELTLV], "\x6c\x00\x00\x00\x01\x04", "\x6c\x00\x00\x00\x01\x05", 1),
		"TLV, a length":              strings.Replace(forms[CELTLV], "\x6c\x00\x00\x00\x01", "\x6c\xff\x00\x00\x01", 1),
	} {
		if c, err := Decode([]byte(text)); err == nil {
			t.Errorf("%s: accepted: %+v", name, c)
		}
	}
	if _, err := Encode(e, "jwt"); err == nil || !strings.Contains(err.Error(), "trustee-request") {
		t.Errorf("an unknown form: %v", err)
	}
	e.OSLogs = []rpc.OSLog{{Register: "rtmr2", Format: "systemd", Entries: []byte("x")}}
	if _, err := Encode(e, CEL); err == nil {
		t.Error("an unknown log was left out")
	}
	if _, err := Decode(make([]byte, rpc.MaxEvidence+1)); err == nil {
		t.Error("evidence that is too large was accepted")
	}
}

func FuzzDecode(f *testing.F) {
	for _, e := range []*rpc.Evidence{evidence(f, bootLog(false)), evidence(f, bootLog(true), osLog())} {
		for _, form := range Names {
			text, err := Encode(e, form)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	for e := range platforms(f) {
		for _, form := range []string{CMW, CMWCBOR} {
			text, err := Encode(e, form)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Decode(data)
		if err != nil || c.Evidence == nil {
			return
		}
		for _, form := range []string{CMW, CMWCBOR, CIMA} {
			text, err := Encode(c.Evidence, form)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := Decode(text); err != nil || !cmp.Equal(again.Evidence, c.Evidence) {
				t.Errorf("%s: the bundle differs: %v", form, err)
			}
		}
	})
}

// TestShared: the whole forms hold the proof of a shared quote. Trustee's
// can't, and Encode returns an error instead of leaving it out.
func TestShared(t *testing.T) {
	e := evidence(t, bootLog(false))
	for _, e.Shared = range []*rpc.Shared{
		{Size: 1, Path: []rpc.Digest{}},
		{Size: 3, Index: 1, Path: []rpc.Digest{{1}, {2}}},
	} {
		for _, form := range []string{CIMA, CMW, CMWCBOR} {
			text, err := Encode(e, form)
			if err != nil {
				t.Fatalf("%s: %v", form, err)
			}
			got, err := Decode(text)
			if err != nil {
				t.Fatalf("%s: %v", form, err)
			}
			if diff := cmp.Diff(e, got.Evidence); diff != "" {
				t.Errorf("%s: %s", form, diff)
			}
		}
		for _, form := range []string{Trustee, TrusteeRequest} {
			if text, err := Encode(e, form); err == nil || !strings.Contains(err.Error(), "not shared") {
				t.Errorf("%s: %v, %.80s", form, err, text)
			}
		}
	}
}

// BenchmarkEncode writes evidence in each of the other forms.
func BenchmarkEncode(b *testing.B) {
	e := evidence(b, bootLog(false))
	for _, form := range []string{Trustee, CMW, CEL} {
		b.Run(form, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				data, err := Encode(e, form)
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(int64(len(data)))
			}
		})
	}
}
