package rpc

import (
	"bytes"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"

	"github.com/cima-project/cima/logs/canonical"
)

// MalformedError is the error of text that is not JSON, that is ambiguous, or that does
// not have the members that it must have.
type MalformedError = canonical.Error

// Bounds of a bundle of evidence, in bytes.
const (
	MaxEvidence = 16 << 20 // all of it
	maxClaims   = 64 << 10
)

// DecodeEvidence reads a bundle of at most MaxEvidence bytes. Each value must be in one
// spelling: strings and numbers as RFC 8785 writes them, base64 in its standard form.
// No member may be there twice, in another case, or unknown. Only white space and the
// order of members are free. Claims may have members that this version doesn't know,
// because their digest covers them. An error is a *MalformedError.
func DecodeEvidence(data []byte) (*Evidence, *Claims, error) {
	if len(data) > MaxEvidence {
		return nil, nil, &MalformedError{Offset: MaxEvidence, Reason: fmt.Sprintf("evidence must have at most %d bytes", MaxEvidence)}
	}
	e, c := new(Evidence), new(Claims)
	var err error
	if !readApart(data, e) {
		*e = Evidence{}
		err = canonical.UnmarshalSpelled(data, e)
	}
	if err == nil {
		err = e.check()
	}
	if err == nil {
		err = under("claims", canonical.UnmarshalSpelled(e.Claims, c))
	}
	if err == nil && (c.Container == nil) == (c.Host == nil) {
		err = wrong("claims.container", "must be there, or host, and not both")
	}
	if err != nil {
		return nil, nil, err
	}
	return e, c, nil
}

// check checks what tags can't express.
func (e *Evidence) check() error {
	if len(e.Claims) > maxClaims {
		return wrong("claims", fmt.Sprintf("must have at most %d bytes", maxClaims))
	}
	for i, entry := range e.RuntimeLog {
		at := func(member string) string { return fmt.Sprintf("runtime_log[%d]%s", i, member) }
		switch {
		case (entry.Event == nil) == (entry.Digests == nil):
			return wrong(at(""), "must have an event or digests")
		case len(entry.Digests)%len(Digest{}) != 0:
			return wrong(at(".digests"), fmt.Sprintf("must have a multiple of %d bytes", len(Digest{})))
		case i > 0 && entry.Digests != nil && e.RuntimeLog[i-1].Digests != nil:
			return wrong(at(".digests"), "must be one record with those before: they are one run")
		}
	}
	return nil
}

// under puts a member before the path of an error.
func under(member string, err error) error {
	if malformed := new(MalformedError); errors.As(err, &malformed) {
		if malformed.Member != "" {
			member += "." + malformed.Member
		}
		return wrong(member, malformed.Reason)
	}
	return err
}

// AppendJSON writes evidence on one line, as DecodeEvidence reads it.
func (e *Evidence) AppendJSON(b []byte) ([]byte, error) {
	if err := canonical.CheckSpelling(e.Claims); err != nil {
		return nil, fmt.Errorf("claims: %w", err)
	}
	return appendJSON(b, e)
}

// appendJSON writes v in the order of its fields. Bytes that are not UTF-8 become
// U+FFFD.
func appendJSON(b []byte, v any) ([]byte, error) {
	w := bytes.NewBuffer(b)
	err := json.MarshalWrite(w, v, json.Deterministic(true), jsontext.AllowInvalidUTF8(true))
	return w.Bytes(), err
}
