package form

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/cima-project/cima/rpc"
)

// Major types of CBOR (RFC 8949, section 3.1): as much of it as a CMW
// collection needs, in the core deterministic encoding (section 4.2.1).
const (
	majorUint  = 0
	majorBytes = 2
	majorText  = 3
	majorArray = 4
	majorMap   = 5
)

// appendHead writes a major type and its argument, in the shortest form.
func appendHead(b []byte, major byte, n uint64) []byte {
	major <<= 5
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n <= 0xFF:
		return append(b, major|24, byte(n))
	case n <= 0xFFFF:
		return binary.BigEndian.AppendUint16(append(b, major|25), uint16(n))
	case n <= 0xFFFFFFFF:
		return binary.BigEndian.AppendUint32(append(b, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, major|27), n)
}

func appendText(b []byte, text string) []byte {
	return append(appendHead(b, majorText, uint64(len(text))), text...)
}

func encodeCMWCBOR(e *rpc.Evidence) ([]byte, error) {
	values, err := split(e)
	if err != nil {
		return nil, err
	}
	n := 1
	for _, v := range values {
		if v != nil {
			n++
		}
	}
	b := appendHead(nil, majorMap, uint64(n))
	for i, p := range parts {
		if p.name == "boot_log" { // keys are sorted by their encoded bytes, so short ones come first
			b = appendText(appendText(b, cmwType), cmwTag)
		}
		if values[i] == nil {
			continue
		}
		b = appendHead(appendText(b, p.name), majorArray, 3)
		b = appendHead(appendText(b, p.mediaOf(e.TEE)), majorBytes, uint64(len(values[i])))
		b = appendHead(append(b, values[i]...), majorUint, indicators)
	}
	return b, nil
}

// cbor reads an encoding from its front. It stores the first error, and then
// reads nothing more.
type cbor struct {
	b   []byte
	err error
}

var errCBOR = errors.New("CMW: must be a collection in deterministic CBOR")

func (c *cbor) fail() uint64 {
	c.b, c.err = nil, errCBOR
	return 0
}

// head reads a major type's argument.
func (c *cbor) head(major byte) uint64 {
	if len(c.b) == 0 || c.b[0]>>5 != major {
		return c.fail()
	}
	small := c.b[0] & 31
	c.b = c.b[1:]
	if small < 24 {
		return uint64(small)
	}
	size := 1 << (small - 24)
	if small > 27 || len(c.b) < size {
		return c.fail()
	}
	var full [8]byte
	copy(full[8-size:], c.b)
	n := binary.BigEndian.Uint64(full[:])
	if len(appendHead(nil, major, n)) != 1+size { // the argument has a shorter form
		return c.fail()
	}
	c.b = c.b[size:]
	return n
}

func (c *cbor) bytes(major byte) []byte {
	n := c.head(major)
	if n > uint64(len(c.b)) {
		c.fail()
		return nil
	}
	v := c.b[:n:n]
	c.b = c.b[n:]
	return v
}

func (c *cbor) text() string {
	b := c.bytes(majorText)
	if !utf8.Valid(b) {
		c.fail()
	}
	return string(b)
}

func decodeCMWCBOR(data []byte) (*Content, error) {
	c := &cbor{b: data}
	n := c.head(majorMap)
	values := make([][]byte, len(parts))
	last, tag := "", ""
	for range min(n, uint64(len(parts))+2) {
		name := c.text()
		if c.err != nil {
			return nil, c.err
		}
		if len(name) < len(last) || len(name) == len(last) && name <= last {
			return nil, errCBOR // out of order, or occurs twice
		}
		last = name
		if name == cmwType {
			tag = c.text()
			continue
		}
		if err := c.part(name, values); err != nil {
			return nil, err
		}
	}
	switch {
	case c.err != nil || len(c.b) > 0:
		return nil, errCBOR
	case tag != cmwTag:
		return nil, fmt.Errorf("CMW: unknown type of collection %.80q", tag)
	}
	return join(CMWCBOR, values)
}

// part reads one message: type, value, and optional indicators.
func (c *cbor) part(name string, values [][]byte) error {
	for i, p := range parts {
		if p.name != name {
			continue
		}
		n := c.head(majorArray)
		want := p.mediaOf(string(values[0])) // the TEE, whose name comes first
		if media := c.text(); c.err == nil && media != want {
			return fmt.Errorf("CMW: %s has the type %.80q, must be %q", name, media, want)
		}
		values[i] = c.bytes(majorBytes)
		if n == 3 && c.head(majorUint) != indicators || n != 3 && n != 2 {
			return errCBOR
		}
		return c.err
	}
	return fmt.Errorf("CMW: unknown member %.80q of the collection", name)
}
