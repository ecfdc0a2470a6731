package vtpm

import (
	"encoding/binary"
	"fmt"
)

// Tags of commands and responses (TPM_ST).
const (
	tagNoSessions = 0x8001
	tagSessions   = 0x8002
)

// responseHeader is tag, size and response code, in bytes.
const responseHeader = 10

// passwordSession authorizes by an empty password: TPM_RS_PW, no nonce, no attributes.
const passwordSession = "\x40\x00\x00\x09\x00\x00\x00\x00\x00"

// command is one to be sent: handles, then parameters.
type command struct {
	name       string // without "TPM2_"
	code       uint32 // TPM_CC
	handles    []uint32
	authorized bool // by an empty password for the first handle
	parameters []byte
}

func (c *command) bytes() []byte {
	tag := uint16(tagNoSessions)
	if c.authorized {
		tag = tagSessions
	}
	b := binary.BigEndian.AppendUint16(nil, tag)
	b = append(b, 0, 0, 0, 0) // size
	b = binary.BigEndian.AppendUint32(b, c.code)
	for _, handle := range c.handles {
		b = binary.BigEndian.AppendUint32(b, handle)
	}
	if c.authorized {
		b = binary.BigEndian.AppendUint32(b, uint32(len(passwordSession)))
		b = append(b, passwordSession...)
	}
	b = append(b, c.parameters...)
	binary.BigEndian.PutUint32(b[2:], uint32(len(b)))
	return b
}

// params are the parameters of a response. None of the commands here has a handle in its
// response.
func (c *command) params(response []byte) ([]byte, error) {
	r := &reader{command: c.name, b: response}
	tag, size, code := r.u16(), r.u32(), r.u32()
	switch {
	case r.err != nil:
		return nil, r.err
	case size != uint32(len(response)):
		return nil, fmt.Errorf("TPM2_%s: %w: %d bytes, and it says %d", c.name, errMalformed, len(response), size)
	case code != 0 && (tag != tagNoSessions || size != responseHeader):
		return nil, fmt.Errorf("TPM2_%s: %w: an error with a tag of %#x and %d bytes", c.name, errMalformed, tag, size)
	case code != 0:
		return nil, &ResponseError{command: c.name, code: code}
	case !c.authorized && tag != tagNoSessions, c.authorized && tag != tagSessions:
		return nil, fmt.Errorf("TPM2_%s: %w: a tag of %#x", c.name, errMalformed, tag)
	case !c.authorized:
		return r.b, nil
	}
	params := r.bytes(int(r.u32()))
	// The password session again: no nonce, continueSession, no HMAC.
	if session := r.rest(); r.err == nil && session != "\x00\x00\x01\x00\x00" && session != "\x00\x00\x00\x00\x00" {
		return nil, fmt.Errorf("TPM2_%s: %w: a session of %d bytes", c.name, errMalformed, len(session))
	}
	return params, r.err
}

// reader takes a structure apart. After an error it gives zeros.
type reader struct {
	command string
	b       []byte
	err     error
}

func (r *reader) bytes(n int) []byte {
	if r.err == nil && (n < 0 || n > len(r.b)) {
		r.err = fmt.Errorf("TPM2_%s: %w: %d bytes where %d are needed", r.command, errMalformed, len(r.b), n)
	}
	if r.err != nil {
		return nil
	}
	taken := r.b[:n:n]
	r.b = r.b[n:]
	return taken
}

func (r *reader) u8() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if b := r.bytes(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.bytes(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.bytes(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// sized is a TPM2B: a length of 16 bits, then its bytes.
func (r *reader) sized() []byte { return r.bytes(int(r.u16())) }

func (r *reader) rest() string {
	rest := string(r.b)
	r.b = nil
	return rest
}

// must fails unless a fact of the response holds.
func (r *reader) must(holds bool, format string, args ...any) {
	if r.err == nil && !holds {
		r.err = fmt.Errorf("TPM2_%s: %w: %s", r.command, errMalformed, fmt.Sprintf(format, args...))
	}
}

// done returns the first error, and one if anything is left.
func (r *reader) done() error {
	r.must(len(r.b) == 0, "%d bytes too many", len(r.b))
	return r.err
}

func appendSized(b, data []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(data))), data...)
}
