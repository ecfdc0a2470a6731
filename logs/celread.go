package logs

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/cima-project/cima/logs/alg"
)

// celJSON is a record as it stands there; used for line after line. Each member
// ends the reading where it is of a wrong type or comes again: encoding/json would
// make an error of each, and go on.
type celJSON struct {
	RecNum      celNumber       `json:"recnum"`
	RTMR        celNumber       `json:"rtmr"`
	PCR         celNumber       `json:"pcr"`
	Digests     celDigestList   `json:"digests"`
	ContentType celText         `json:"content_type"`
	Content     json.RawMessage `json:"content"`
}

// Errors of lines carry no detail, as those of IMA entries don't.
var (
	errCELJSON     = errors.New("no record in JSON")
	errCELRegister = errors.New("no register that a TD has")
	errCELDigests  = fmt.Errorf("not one SHA-384 digest, or more than %d digests", alg.Max)
)

func (j *celJSON) parse(line []byte) (CELRecord, error) {
	*j = celJSON{}
	if len(line) < minCELRecord || !plainNames(line) || json.Unmarshal(line, j) != nil {
		return CELRecord{}, errCELJSON
	}
	r := CELRecord{Number: j.RecNum.value, RTMR: -1, ContentType: j.ContentType.value, Content: j.Content, Digest: j.Digests.sha384}
	switch {
	case j.RTMR.there && j.RTMR.value <= 3:
		r.RTMR = int(j.RTMR.value)
	case !j.RTMR.there && j.PCR.there && j.PCR.value <= 15:
		r.RTMR = rtmrOf(uint32(j.PCR.value))
	}
	if r.RTMR < 0 {
		return CELRecord{}, errCELRegister
	}
	if j.Digests.found != 1 || j.Digests.all > alg.Max {
		return CELRecord{}, errCELDigests
	}
	return r, nil
}

// plainNames reports whether the line is UTF-8 and no member has a name longer
// than maxCELName: encoding/json makes many copies of a name, and more of one
// that isn't UTF-8.
func plainNames(line []byte) bool {
	if !utf8.Valid(line) {
		return false
	}
	for {
		_, rest, ok := bytes.Cut(line, []byte{'"'})
		if !ok {
			return true
		}
		end := 0
		for end < len(rest) && rest[end] != '"' {
			if rest[end] == '\\' {
				end++
			}
			end++
		}
		if end >= len(rest) {
			return false // no end: no JSON either
		}
		line = bytes.TrimLeft(rest[end+1:], " \t\r")
		if end > maxCELName && len(line) > 0 && line[0] == ':' {
			return false
		}
	}
}

// celNumber is a whole number.
type celNumber struct {
	value uint64
	there bool
}

// UnmarshalJSON reads it; null is none.
func (n *celNumber) UnmarshalJSON(b []byte) (err error) {
	if string(b) == "null" {
		return nil
	}
	if n.there || len(b) > 20 { // digits of a u64
		return errCELJSON
	}
	n.there = true
	if n.value, err = strconv.ParseUint(string(b), 10, 64); err != nil {
		return errCELJSON
	}
	return nil
}

// celText is a string without escapes: no name that means something has one.
type celText struct {
	value string
	there bool
}

// UnmarshalJSON reads it; null is none.
func (t *celText) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	text, rest, ok := celString(b)
	if t.there || !ok || len(rest) > 0 {
		return errCELJSON
	}
	t.value, t.there = string(text), true
	return nil
}

// celString reads a string without escapes.
func celString(b []byte) (text, rest []byte, ok bool) {
	if len(b) == 0 || b[0] != '"' {
		return nil, nil, false
	}
	text, rest, ok = bytes.Cut(b[1:], []byte{'"'})
	return text, rest, ok && !bytes.ContainsRune(text, '\\')
}

// celDigestList is a record's list of digests, each of one algorithm.
type celDigestList struct {
	all, found int // found: of SHA-384
	sha384     [48]byte
	there      bool
}

// UnmarshalJSON reads what is JSON, encoding/json says; null is none.
func (d *celDigestList) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	if d.there || b[0] != '[' {
		return errCELJSON
	}
	d.there = true
	for rest := celSpace(b[1:]); len(rest) > 1; d.all++ { // up to the last bracket
		var ok bool
		if rest, ok = d.one(rest); !ok {
			return errCELJSON
		}
		if rest = celSpace(rest); rest[0] == ',' {
			rest = celSpace(rest[1:])
		}
	}
	return nil
}

// one reads {"hashAlg":"…","digest":"…"}, in whatever order.
func (d *celDigestList) one(b []byte) (rest []byte, ok bool) {
	if b[0] != '{' {
		return nil, false
	}
	var alg, digest []byte
	for b = celSpace(b[1:]); b[0] != '}'; {
		name, after, ok := celString(b)
		if !ok {
			return nil, false
		}
		value, after, ok := celString(celSpace(celSpace(after)[1:])) // behind the colon
		switch {
		case !ok:
			return nil, false
		case string(name) == "hashAlg" && alg == nil:
			alg = value
		case string(name) == "digest" && digest == nil:
			digest = value
		default:
			return nil, false
		}
		if b = celSpace(after); b[0] == ',' {
			b = celSpace(b[1:])
		}
	}
	if string(alg) == "sha384" && len(digest) == hex.EncodedLen(len(d.sha384)) {
		if _, err := hex.Decode(d.sha384[:], digest); err != nil {
			return nil, false
		}
		d.found++
	}
	return b[1:], true
}

func celSpace(b []byte) []byte { return bytes.TrimLeft(b, " \t\r\n") }
