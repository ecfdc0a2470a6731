package form

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"slices"

	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/alg"
	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/logs/canonical"
)

// Types of the CEL's TLV encoding (TCG CEL 1.0, section 5.1); 108 is Google's
// for the registers of confidential computing, where RTMR3 is 4.
const (
	tlvRecNum   = 0
	tlvCCMR     = 108
	tlvDigests  = 3
	tlvPCClient = 5
)

func encodeCEL(events []Event, form string) []byte {
	var b []byte
	for i, e := range events {
		r := logs.CELRecord{Number: uint64(i), RTMR: e.RTMR, Digest: e.Digest, Type: e.Type, Data: e.Data}
		if e.Data == nil {
			r.Data = []byte(boot.RedactedData)
		}
		if form == CELTLV {
			b = logs.AppendCELTLV(b, r)
		} else {
			b = append(logs.AppendCELJSON(b, r), '\n')
		}
	}
	return b
}

// celRecord is a record that encodeCEL wrote in JSON. Its data may be an event of
// logs.MaxEvent bytes, which is more than the reader of kernels' logs accepts.
type celRecord struct {
	Number  *uint64 `json:"recnum"`
	RTMR    *int    `json:"rtmr"`
	Digests []struct {
		Alg    string `json:"hashAlg"`
		Digest string `json:"digest"`
	} `json:"digests"`
	ContentType string `json:"content_type"`
	Content     struct {
		Type jsontext.Value `json:"event_type"`
		Data string         `json:"event_data"`
	} `json:"content"`
}

func decodeCEL(data []byte) (*Content, error) {
	c := &Content{Form: CEL}
	for line := range bytes.Lines(data) {
		if line = bytes.Trim(line, "\x1e \t\r\n"); len(line) == 0 {
			continue
		}
		if err := c.addLine(line); err != nil {
			return nil, fmt.Errorf("event log: record %d: %w", len(c.Events), err)
		}
	}
	return c, nil
}

func (c *Content) addLine(line []byte) error {
	var r celRecord
	if err := canonical.Check(line); err != nil {
		return err
	}
	if err := canonical.Decode(line, &r); err != nil {
		return err
	}
	switch {
	case r.Number == nil || *r.Number != uint64(len(c.Events)):
		return errors.New("records must be numbered from 0, without gaps")
	case r.RTMR == nil || *r.RTMR < 0 || *r.RTMR > 3:
		return errors.New("\"rtmr\" must be 0 to 3")
	case r.ContentType != "pcclient_std":
		return fmt.Errorf("unknown content type %.40q", r.ContentType)
	case len(r.Digests) != 1 || r.Digests[0].Alg != "sha384":
		return errors.New("the record must have one SHA-384 digest")
	}
	digest, err1 := hex.DecodeString(r.Digests[0].Digest)
	data, err2 := hex.DecodeString(r.Content.Data)
	kind, err3 := eventType(r.Content.Type)
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	if len(digest) != 48 {
		return fmt.Errorf("a SHA-384 digest must have 48 bytes, not %d", len(digest))
	}
	c.add(*r.RTMR, kind, [48]byte(digest), data)
	return nil
}

func (c *Content) add(rtmr int, kind uint32, digest [48]byte, data []byte) {
	if kind == boot.EvEventTag && string(data) == boot.RedactedData {
		data = nil
	}
	c.Events = append(c.Events, Event{rtmr, kind, digest, data})
}

// eventType reads a type: its name, or its number.
func eventType(text jsontext.Value) (uint32, error) {
	var number uint32
	if canonical.Decode(text, &number) == nil {
		return number, nil
	}
	var name string
	if err := canonical.Decode(text, &name); err != nil {
		return 0, fmt.Errorf("event type: %w", err)
	}
	for _, first := range []uint32{0, 0x80000000, 0x800000E0} {
		for t := first; t < first+32; t++ {
			if boot.TypeName(t) == name {
				return t, nil
			}
		}
	}
	return 0, fmt.Errorf("unknown event type %.40q", name)
}

var errTLV = errors.New("must be a record of TCG CEL 1.0 with one SHA-384 digest")

func decodeCELTLV(data []byte) (*Content, error) {
	c := &Content{Form: CELTLV}
	for rest := data; len(rest) > 0; {
		var err error
		if rest, err = c.addTLV(rest); err != nil {
			return nil, fmt.Errorf("event log: record %d: %w", len(c.Events), err)
		}
	}
	return c, nil
}

// addTLV reads one record: number, register, digests, content.
func (c *Content) addTLV(b []byte) (rest []byte, err error) {
	number, b, err1 := cutTLV(b, tlvRecNum)
	register, b, err2 := cutTLV(b, tlvCCMR)
	digests, b, err3 := cutTLV(b, tlvDigests)
	content, b, err4 := cutTLV(b, tlvPCClient)
	digest, more, err5 := cutTLV(digests, byte(alg.SHA384))
	kind, content, err6 := cutTLV(content, 0)
	event, end, err7 := cutTLV(content, 1)
	if err := errors.Join(err1, err2, err3, err4, err5, err6, err7); err != nil {
		return nil, errTLV
	}
	if len(number) != 8 || binary.BigEndian.Uint64(number) != uint64(len(c.Events)) ||
		len(register) != 1 || register[0] < 1 || register[0] > 4 ||
		len(digest) != 48 || len(more) > 0 || len(kind) != 4 || len(end) > 0 {
		return nil, errTLV
	}
	c.add(int(register[0])-1, binary.BigEndian.Uint32(kind), [48]byte(digest), slices.Clone(event))
	return b, nil
}

// cutTLV cuts off one element of the type: u8 type, u32 length, big-endian.
func cutTLV(b []byte, kind byte) (value, rest []byte, err error) {
	if len(b) < 5 || b[0] != kind || uint64(binary.BigEndian.Uint32(b[1:])) > uint64(len(b)-5) {
		return nil, nil, errTLV
	}
	n := 5 + int(binary.BigEndian.Uint32(b[1:]))
	return b[5:n:n], b[n:], nil
}
