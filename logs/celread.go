package logs

import (
	"bytes"
	"encoding/hex"
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/cima-project/cima/logs/alg"
)

// Errors of lines carry no details, as those of IMA entries.
var (
	errCELJSON     = errors.New("a line must be a CEL record in JSON")
	errCELRegister = errors.New("a record must name a register that a TD has")
	errCELDigests  = fmt.Errorf("a record must have one SHA-384 digest, and at most %d digests", alg.Max)
)

// celReader reads CEL-JSON line by line. It reads token by token, so that what it
// allocates is bounded by the line.
type celReader struct {
	json jsontext.Decoder

	record    CELRecord
	rtmr, pcr int // -1: absent
	digests   int // of any algorithm
	sha384    int
}

// read reads one record. A member that is null counts as absent; members that are not
// known here are skipped.
func (c *celReader) read(line []byte) (CELRecord, error) {
	if len(line) < minCELRecord {
		return CELRecord{}, errCELJSON
	}
	c.json.Reset(bytes.NewBuffer(line))
	c.record, c.rtmr, c.pcr, c.digests, c.sha384 = CELRecord{RTMR: -1}, -1, -1, 0, 0
	if !c.object(c.member) || !c.ended() {
		return CELRecord{}, errCELJSON
	}
	switch {
	case c.rtmr >= 0 && c.rtmr <= 3:
		c.record.RTMR = c.rtmr
	case c.rtmr < 0 && c.pcr >= 0:
		c.record.RTMR = rtmrOf(uint32(c.pcr))
	}
	if c.record.RTMR < 0 {
		return CELRecord{}, errCELRegister
	}
	if c.sha384 != 1 || c.digests > alg.Max {
		return CELRecord{}, errCELDigests
	}
	return c.record, nil
}

func (c *celReader) ended() bool {
	_, err := c.json.ReadToken()
	return err == io.EOF
}

// object reads an object, and each member's value by member.
func (c *celReader) object(member func(name string) bool) bool {
	if !c.token('{') {
		return false
	}
	for c.json.PeekKind() == '"' {
		name, err := c.json.ReadValue()
		if err != nil || !member(knownName(name)) {
			return false
		}
	}
	return c.token('}')
}

// maxName is the length of the longest name that is known, with each character escaped.
const maxName = len(`"content_type"`) * len(`\u0000`)

// knownName returns a name without its quotes; "" for a name that is longer than any
// known one, because such a name is not worth a copy.
func knownName(quoted jsontext.Value) string {
	if len(quoted) > maxName {
		return ""
	}
	name, _ := jsontext.AppendUnquote(nil, quoted)
	return string(name)
}

func (c *celReader) token(kind jsontext.Kind) bool {
	token, err := c.json.ReadToken()
	return err == nil && token.Kind() == kind
}

func (c *celReader) member(name string) (ok bool) {
	if c.json.PeekKind() == 'n' {
		return c.json.SkipValue() == nil
	}
	switch name {
	case "recnum":
		c.record.Number, ok = c.number()
	case "rtmr":
		c.rtmr, ok = c.register()
	case "pcr":
		c.pcr, ok = c.register()
	case "digests":
		ok = c.list()
	case "content_type":
		c.record.contentType, ok = c.text()
	case "content":
		value, err := c.json.ReadValue()
		c.record.content, ok = bytes.Clone(value), err == nil
	default:
		ok = c.json.SkipValue() == nil
	}
	return ok
}

func (c *celReader) number() (uint64, bool) {
	value, err := c.json.ReadValue()
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(string(value), 10, 64)
	return n, err == nil
}

// register reads the number of a register: 99 stands for all that no machine has.
func (c *celReader) register() (int, bool) {
	n, ok := c.number()
	return int(min(n, 99)), ok
}

func (c *celReader) text() (string, bool) {
	token, err := c.json.ReadToken()
	if err != nil || token.Kind() != '"' {
		return "", false
	}
	return token.String(), true
}

// list reads the digests: {"hashAlg": …, "digest": …} each.
func (c *celReader) list() bool {
	if !c.token('[') {
		return false
	}
	for c.json.PeekKind() == '{' {
		var id, digest string
		ok := c.object(func(name string) (ok bool) {
			switch name {
			case "hashAlg":
				id, ok = c.text()
			case "digest":
				digest, ok = c.text()
			}
			return ok
		})
		if !ok {
			return false
		}
		c.digests++
		if id == alg.SHA384.String() && len(digest) == hex.EncodedLen(len(c.record.Digest)) {
			if _, err := hex.Decode(c.record.Digest[:], []byte(digest)); err != nil {
				return false
			}
			c.sha384++
		}
	}
	return c.token(']')
}
