package form

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/cima-project/cima/logs/canonical"

	"github.com/cima-project/cima/rpc"
)

// A CMW collection (draft-ietf-rats-msg-wrap, section 3.2) with a part for
// each member of a bundle.
const (
	cmwType    = "__cmwc_t"
	cmwTag     = "tag:github.com,2026:cima-project/cima/evidence/v2"
	indicators = 4 // evidence
)

// part is one message of the collection.
type part struct {
	name, media string // media: "" where it is by the TEE
	text        bool   // the bundle's member is this text; otherwise base64 of it, or JSON
	json        bool
}

// parts in the order of their encoded names (RFC 8949, section 4.2.1). The first is by which
// the media types of others are told.
var parts = []part{
	{name: "tee", media: "text/plain", text: true},
	{name: "quote"},
	{name: "claims", media: "application/vnd.cima.claims+json", json: true},
	{name: "shared", media: "application/vnd.cima.shared+json", json: true},
	{name: "os_logs", media: "application/vnd.cima.os-logs+json", json: true},
	{name: "profile", media: "text/plain", text: true},
	{name: "boot_log"},
	{name: "platform", media: "application/vnd.cima.platform+json", json: true},
	{name: "runtime_log", media: "application/vnd.cima.runtime-log+json", json: true},
	{name: "agent_signature", media: "application/vnd.cima.agent-signature"},
}

// unknownBytes is the media type of what nobody says more of.
const unknownBytes = "application/octet-stream"

// mediaOf is the media type of a part in evidence of a TEE. That of SNP reports is the one of
// draft-deeglaze-amd-sev-snp-corim-profile-02, section 5.2.1; none is registered with IANA.
// The boot log of an SNP guest is empty.
func (p part) mediaOf(tee string) string {
	const (
		tdx, snp = "application/vnd.intel.tdx-quote", "application/vnd.amd.sev-snp.attestation-report"
		ccel     = "application/vnd.tcg.ccel"
		tpm      = "application/vnd.cima.tpm-event-log" // TCG PC Client Platform Firmware Profile, section 10
	)
	types := map[string]struct{ quote, bootLog string }{
		"tdx":       {tdx, ccel},
		"azure-tdx": {tdx, tpm},
		"azure-snp": {snp, tpm},
		"snp":       {snp, unknownBytes},
	}[tee]
	switch p.name {
	case "quote":
		return cmp.Or(types.quote, unknownBytes)
	case "boot_log":
		return cmp.Or(types.bootLog, unknownBytes)
	}
	return p.media
}

// split returns the parts of a bundle; one that the bundle lacks is nil.
func split(e *rpc.Evidence) ([][]byte, error) {
	bundle, err := e.AppendJSON(nil)
	if err != nil {
		return nil, err
	}
	var members map[string]jsontext.Value
	if err := canonical.Decode(bundle, &members); err != nil {
		return nil, err
	}
	values := make([][]byte, len(parts))
	for i, p := range parts {
		member, ok := members[p.name]
		switch {
		case !ok:
		case p.json:
			values[i] = member
		case p.text:
			var s string
			err = errors.Join(err, canonical.Decode(member, &s))
			values[i] = []byte(s)
		default:
			err = errors.Join(err, canonical.Decode(member, &values[i]))
		}
	}
	return values, err
}

// join makes a bundle from parts, and reads it as strictly as any bundle.
func join(form string, values [][]byte) (*Content, error) {
	b := []byte{'{'}
	for i, p := range parts {
		if values[i] == nil {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, "%q:", p.name)
		switch {
		case p.json:
			if err := canonical.CheckSpelling(values[i]); err != nil { // one value, and nothing after it
				return nil, fmt.Errorf("CMW: %s: %w", p.name, err)
			}
			b = append(b, values[i]...)
		case p.text:
			text, err := canonicalText(values[i])
			if err != nil {
				return nil, fmt.Errorf("CMW: %s: %w", p.name, err)
			}
			b = append(b, text...)
		default:
			b = base64.StdEncoding.AppendEncode(append(b, '"'), values[i])
			b = append(b, '"')
		}
	}
	e, _, err := rpc.DecodeEvidence(append(b, '}'))
	if err != nil {
		return nil, fmt.Errorf("CMW: %w", err)
	}
	return &Content{Form: form, Evidence: e}, nil
}

// canonicalText spells a string as RFC 8785 does, and so as bundles do.
func canonicalText(text []byte) ([]byte, error) {
	if !utf8.Valid(text) { // otherwise it would be read as another text
		return nil, errors.New("must be UTF-8")
	}
	return canonical.Marshal(string(text))
}

func encodeCMW(e *rpc.Evidence) ([]byte, error) {
	values, err := split(e)
	if err != nil {
		return nil, err
	}
	b := fmt.Appendf(nil, "{%q:%q", cmwType, cmwTag)
	for i, p := range parts {
		if values[i] != nil {
			b = fmt.Appendf(b, ",%q:[%q,%q,%d]", p.name, p.mediaOf(e.TEE), base64.RawURLEncoding.EncodeToString(values[i]), indicators)
		}
	}
	return append(b, '}'), nil
}

func decodeCMW(members map[string]jsontext.Value) (*Content, error) {
	var tag string
	if err := canonical.Decode(members[cmwType], &tag); err != nil || tag != cmwTag {
		return nil, fmt.Errorf("CMW: unknown type of collection %.80q", tag)
	}
	values := make([][]byte, len(parts))
	known := 1
	for i, p := range parts {
		member, ok := members[p.name]
		if !ok {
			continue
		}
		known++
		var record []jsontext.Value
		if err := canonical.Decode(member, &record); err != nil || len(record) < 2 || len(record) > 3 {
			return nil, fmt.Errorf("CMW: %s must be a record of type, value and indicator", p.name)
		}
		var media, value string
		if err := errors.Join(canonical.Decode(record[0], &media), canonical.Decode(record[1], &value)); err != nil || media != p.mediaOf(string(values[0])) {
			return nil, fmt.Errorf("CMW: %s has the type %.80q, must be %q", p.name, media, p.mediaOf(string(values[0])))
		}
		if len(record) == 3 && !bytes.Equal(record[2], []byte("4")) {
			return nil, fmt.Errorf("CMW: the indicator of %s must be evidence", p.name)
		}
		var err error
		if values[i], err = base64.RawURLEncoding.Strict().DecodeString(value); err != nil {
			return nil, fmt.Errorf("CMW: %s: %w", p.name, err)
		}
	}
	if known != len(members) {
		return nil, errors.New("CMW: the collection has unknown members")
	}
	return join(CMW, values)
}
