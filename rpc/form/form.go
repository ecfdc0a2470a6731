// Package form answers: in which form does evidence travel?
//
// CIMA's own form, a bundle (cima-evidence(7)), holds all of it. The other forms
// carry it to verifiers that read no bundles: a conceptual message (CMW) holds
// all too, Trustee's forms leave out the agent's signature, event logs (CEL) hold
// the events alone. Each form is read back to the same events. This package does
// not check whether evidence is true.
package form

import (
	"bytes"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"slices"
	"strings"

	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/logs/canonical"
	"github.com/cima-project/cima/logs/ima"
	"github.com/cima-project/cima/rpc"
)

// The forms of evidence.
const (
	CIMA           = "cima"            // a bundle
	Trustee        = "trustee"         // what Trustee's TDX verifier reads
	TrusteeRequest = "trustee-request" // what its attestation service takes
	CMW            = "cmw"             // a CMW collection in JSON (draft-ietf-rats-msg-wrap)
	CMWCBOR        = "cmw-cbor"        // the same in CBOR
	CEL            = "cel"             // TCG Canonical Event Log, a JSON record per line
	CELTLV         = "cel-tlv"         // the same in TLV
)

// tdx is the TEE whose registers are RTMR0–3.
const tdx = "tdx"

// Names are all forms, in the order in which the manual documents them.
var Names = []string{CIMA, Trustee, TrusteeRequest, CMW, CMWCBOR, CEL, CELTLV}

// Event is an event of a log as every form carries it.
type Event struct {
	RTMR   int      // 0–3
	Type   uint32   // event type of the TCG PC Client profile; runtime events have boot.EvEventTag
	Digest [48]byte // SHA-384, which extended the register
	Data   []byte   // nil if only the digest is shown
}

// Content is what evidence in any form holds.
type Content struct {
	Form     string         // one of Names
	Evidence *rpc.Evidence  // nil unless Form is CIMA, CMW or CMWCBOR
	Quote    []byte         // nil in CEL
	Claims   jsontext.Value // nil in CEL and in Trustee's evidence
	Events   []Event        // those that extended RTMR0–3, in order within each register; none where the TEE has no such
}

// Encode writes evidence in a form, one of Names. It fails if the form can't
// hold the evidence: Trustee's forms can't hold shared quotes and private logs, and the
// forms of RTMRs are for TDs.
func Encode(e *rpc.Evidence, form string) ([]byte, error) {
	switch form {
	case CIMA:
		return e.AppendJSON(nil)
	case CMW:
		return encodeCMW(e)
	case CMWCBOR:
		return encodeCMWCBOR(e)
	}
	if e.TEE != tdx && slices.Contains(Names, form) {
		return nil, fmt.Errorf("the form %s is of RTMR0 to 3, which evidence of the TEE %.80q has not; %s and %s hold all of it", form, e.TEE, CMW, CMWCBOR)
	}
	events, err := eventsOf(e)
	if err != nil {
		return nil, err
	}
	switch form {
	case Trustee:
		return encodeTrustee(e, events)
	case TrusteeRequest:
		return encodeRequest(e, events)
	case CEL, CELTLV:
		return encodeCEL(events, form), nil
	}
	return nil, fmt.Errorf("unknown form %q; must be one of %s", form, strings.Join(Names, ", "))
}

// Decode reads evidence of at most rpc.MaxEvidence bytes, in any of the forms.
// It fails if the data are in none of them, or break a rule of their form.
func Decode(data []byte) (*Content, error) {
	if len(data) > rpc.MaxEvidence {
		return nil, fmt.Errorf("evidence must have at most %d bytes", rpc.MaxEvidence)
	}
	text := bytes.TrimLeft(data, "\x1e \t\r\n")
	var c *Content
	var err error
	switch {
	case len(text) > 0 && text[0] == '{':
		c, err = decodeJSON(data, text)
	case len(data) > 0 && data[0]>>5 == majorMap:
		c, err = decodeCMWCBOR(data)
	case bytes.HasPrefix(data, []byte{0, 0, 0, 0, 8}): // record number, 8 bytes
		c, err = decodeCELTLV(data)
	default:
		return nil, fmt.Errorf("evidence must be in one of the forms %s", strings.Join(Names, ", "))
	}
	if err != nil {
		return nil, err
	}
	if c.Evidence != nil {
		c.Quote, c.Claims = c.Evidence.Quote, c.Evidence.Claims
		if c.Evidence.TEE == tdx {
			c.Events, err = eventsOf(c.Evidence)
		}
	}
	return c, err
}

// decodeJSON distinguishes the JSON forms by their members.
func decodeJSON(data, text []byte) (*Content, error) {
	var members map[string]jsontext.Value
	first, err := jsontext.NewDecoder(bytes.NewBuffer(text)).ReadValue() // may have many lines
	if err == nil {
		err = json.Unmarshal(first, &members)
	}
	if err != nil {
		return nil, fmt.Errorf("must be a JSON object: %s", canonical.Clip(err.Error(), 128))
	}
	has := func(name string) bool { _, ok := members[name]; return ok }
	switch {
	case has("recnum"):
		return decodeCEL(data)
	case has("profile") && !has(cmwType):
		e, _, err := rpc.DecodeEvidence(data)
		return &Content{Form: CIMA, Evidence: e}, err
	}
	if err := canonical.Check(data); err != nil { // one object, no member twice
		return nil, err
	}
	switch {
	case has(cmwType):
		return decodeCMW(members)
	case has("verification_requests"):
		return decodeRequest(data)
	case has("cc_eventlog"):
		return decodeTrustee(data)
	}
	return nil, fmt.Errorf("JSON must be in one of the forms %s", strings.Join(Names, ", "))
}

// eventsOf returns the events of a bundle that extended RTMR0–3: those of the
// boot log, of the operating system's logs, and of the runtime log.
func eventsOf(e *rpc.Evidence) ([]Event, error) {
	log, err := boot.Parse(e.BootLog)
	if err != nil {
		return nil, err
	}
	events := bootEvents(log)
	for _, l := range e.OSLogs {
		if events, err = appendOSLog(events, l); err != nil {
			return nil, err
		}
	}
	for _, entry := range e.RuntimeLog {
		for at := 0; at < len(entry.Digests); at += 48 {
			events = append(events, Event{RTMR: 3, Type: boot.EvEventTag, Digest: [48]byte(entry.Digests[at:])})
		}
		if entry.Event == nil {
			continue
		}
		own, err := logs.ParseEvent(entry.Event)
		if err != nil {
			return nil, fmt.Errorf("runtime log: %w", err)
		}
		events = append(events, Event{3, boot.EvEventTag, own.Digest(), own.Bytes()})
	}
	return events, nil
}

// bootEvents returns the events of a boot log that extended a register.
func bootEvents(log *boot.Log) []Event {
	var events []Event
	for _, b := range log.UnverifiedEvents() {
		rtmr, ok := b.Extends()
		if !ok {
			continue
		}
		data := b.Data
		if b.Redacted() {
			data = nil
		}
		events = append(events, Event{rtmr, b.Type, b.Digest, data})
	}
	return events
}

// appendOSLog adds IMA's entries, as tagged events "IMA" with the entry's line.
func appendOSLog(events []Event, l rpc.OSLog) ([]Event, error) {
	if l.Register != "rtmr2" || l.Format != rpc.FormatIMA && l.Format != rpc.FormatIMADigests {
		return nil, fmt.Errorf("a log %q of the operating system for %q: other forms have only IMA's for \"rtmr2\"", l.Format, l.Register)
	}
	if l.Format == rpc.FormatIMADigests {
		if len(l.Entries)%48 != 0 {
			return nil, fmt.Errorf("IMA log: digests must be a multiple of 48 bytes, not %d bytes", len(l.Entries))
		}
		for at := 0; at < len(l.Entries); at += 48 {
			events = append(events, Event{RTMR: 2, Type: boot.EvEventTag, Digest: [48]byte(l.Entries[at:])})
		}
		return events, nil
	}
	for entry, err := range ima.NewReader(bytes.NewReader(l.Entries)).UnverifiedEntries() {
		if err != nil {
			return nil, fmt.Errorf("IMA log: %w", err)
		}
		digest, extends, err := entry.RTMR2Digest()
		if err != nil {
			return nil, fmt.Errorf("IMA log: %w", err)
		}
		if !extends {
			continue
		}
		line := strings.ToValidUTF8(entry.String(), "\uFFFD")
		events = append(events, Event{2, boot.EvEventTag, digest, tagged(tagIMA, line)})
	}
	return events, nil
}
