package vtpm_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/cima-project/cima/hw/vtpm"
)

// fake is a TPM that answers each command with the next of these responses.
type fake struct {
	responses [][]byte
	commands  int
	left      []byte
}

func (f *fake) Write(b []byte) (int, error) {
	if len(f.responses) == 0 {
		return 0, io.ErrClosedPipe
	}
	f.commands++
	f.left, f.responses = f.responses[0], f.responses[1:]
	return len(b), nil
}

func (f *fake) Read(b []byte) (int, error) {
	if len(f.left) == 0 {
		return 0, io.EOF
	}
	n := copy(b, f.left)
	f.left = f.left[n:]
	return n, nil
}

func (f *fake) Close() error { return nil }

func answering(responses ...[]byte) (*vtpm.TPM, *fake) {
	f := &fake{responses: responses}
	return vtpm.New(func() (io.ReadWriteCloser, error) { return f, nil }), f
}

// response is one of this tag and code, with its size.
func response(tag uint16, code uint32, rest ...byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, tag)
	b = binary.BigEndian.AppendUint32(b, uint32(10+len(rest)))
	return append(binary.BigEndian.AppendUint32(b, code), rest...)
}

// value13 answers PCR_Read of PCR 13 with both banks.
func value13() []byte {
	rest := []byte{0, 0, 0, 9, 0, 0, 0, 2, 0, 0x0b, 3, 0, 0x20, 0, 0, 0x0c, 3, 0, 0x20, 0, 0, 0, 0, 2, 0, 32}
	rest = append(rest, make([]byte, 32)...)
	rest = append(rest, 0, 48)
	return append(rest, make([]byte, 48)...)
}

// Whatever a byte of a response is changed to, the value that is read has the banks that
// the response says it has, or there is an error. Cut or longer, it is refused.
func TestMalformed(t *testing.T) {
	good := response(0x8001, 0, value13()...)
	tpm, _ := answering(good)
	if v, err := tpm.PCR(t.Context(), 13); err != nil || v.None() {
		t.Fatalf("%v, %v", v, err)
	}
	refused := 0
	for at := range good {
		if at >= 10 && at < 14 || at >= 36 && at < 68 || at >= 70 {
			continue // the update counter, and values
		}
		changed := append([]byte(nil), good...)
		changed[at] ^= 0x41
		tpm, _ := answering(changed)
		if v, err := tpm.PCR(t.Context(), 13); err == nil {
			t.Errorf("byte %d changed: read as %v", at, v)
		} else {
			refused++
		}
	}
	if refused != 34 {
		t.Errorf("%d changes were refused, must be 34", refused)
	}
	for n := range good {
		tpm, _ := answering(good[:n])
		if _, err := tpm.PCR(t.Context(), 13); err == nil {
			t.Errorf("cut to %d bytes: read", n)
		}
	}
	for name, bad := range map[string][]byte{
		"longer":                append(response(0x8001, 0, append(value13(), 0)...), 0),
		"too long":              {0x80, 1, 0, 1, 0, 0, 0, 0, 0, 0},
		"an error with a body":  response(0x8001, 0x101, 1, 2),
		"an error in a session": response(0x8002, 0x101),
		"a session":             response(0x8002, 0, value13()...),
		"nothing":               {},
	} {
		tpm, _ := answering(bad)
		if _, err := tpm.PCR(t.Context(), 13); err == nil {
			t.Errorf("%s: read", name)
		}
	}
}

// A bank that is missing is missing from the value, and nothing else.
func TestMissingBank(t *testing.T) {
	rest := []byte{0, 0, 0, 9, 0, 0, 0, 1, 0, 0x0b, 3, 0, 0x20, 0, 0, 0, 0, 1, 0, 32}
	tpm, _ := answering(response(0x8001, 0, append(rest, make([]byte, 32)...)...), response(0x8001, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0))
	v, err := tpm.PCR(t.Context(), 13)
	_, has := v.SHA384()
	if err != nil || has || v.None() {
		t.Errorf("%v, %v", v, err)
	}
	if v, err := tpm.PCR(t.Context(), 13); err != nil || !v.None() {
		t.Errorf("no bank: %v, %v", v, err)
	}
}

// A TPM that says "not now" is asked again, and not for ever.
func TestRetry(t *testing.T) {
	busy := response(0x8001, 0x922)
	tpm, f := answering(busy, busy, response(0x8001, 0, value13()...))
	if _, err := tpm.PCR(t.Context(), 13); err != nil || f.commands != 3 {
		t.Errorf("%d commands: %v", f.commands, err)
	}
	tpm, f = answering(busy, busy, busy, busy, busy, busy, busy, busy, busy, busy, busy, busy)
	_, err := tpm.PCR(t.Context(), 13)
	if refused, is := errors.AsType[*vtpm.ResponseError](err); !is || refused.Absent() || f.commands != 9 {
		t.Errorf("%d commands: %v", f.commands, err)
	}
	tpm, f = answering(response(0x8001, 0x101), busy)
	if _, err := tpm.PCR(t.Context(), 13); err == nil || f.commands != 1 {
		t.Errorf("%d commands after a failure: %v", f.commands, err)
	}
}

// No PCR is extended where no bank has it, and none that this package can't hash alone.
func TestNoBank(t *testing.T) {
	for name, banks := range map[string][]byte{
		"none":      {0, 0, 0, 0, 5, 0, 0, 0, 0},
		"not of 13": {0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0x0b, 3, 0xff, 0, 0},
		"SM3 alone": {0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0x12, 3, 0xff, 0xff, 0xff},
		"a lie":     {0, 0, 0, 0, 6, 0, 0, 0, 1, 0, 0x0b, 3, 0xff, 0xff, 0xff},
		"twice":     {0, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0x0b, 3, 0xff, 0xff, 0xff, 0, 0x0b, 3, 0xff, 0xff, 0xff},
	} {
		tpm, f := answering(response(0x8001, 0, banks...), response(0x8002, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0))
		if err := tpm.Extend(t.Context(), 13, event(1)); err == nil || f.commands != 1 {
			t.Errorf("%s: %d commands: %v", name, f.commands, err)
		}
	}
}

// Nothing that a TPM answers makes a method panic, or give what does not hold together.
func FuzzResponse(f *testing.F) {
	f.Add(response(0x8001, 0, value13()...))
	f.Add(response(0x8002, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0))
	f.Add(response(0x8001, 0x18b))
	f.Add(response(0x8001, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0x0b, 3, 0xff, 0xff, 0xff))
	f.Fuzz(func(t *testing.T, answer []byte) {
		tpm, _ := answering(answer, answer, answer, answer, answer)
		if v, err := tpm.PCR(t.Context(), 13); err != nil && !v.None() {
			t.Error("a value beside an error")
		}
		if b, err := tpm.NV(t.Context(), 1, 100); err == nil && len(b) > 100 {
			t.Error("beyond the limit")
		}
		if q, err := tpm.Quote(t.Context(), 1, nil); err == nil {
			if a, err := vtpm.ReadAttest(q.Attest); err != nil || a.Covers(q.PCRs) != nil {
				t.Error("a quote over other values")
			}
		}
		_, _ = tpm.RSA(t.Context(), 1)
		_ = fmt.Sprint(tpm.Extend(t.Context(), 13, event(0)))
		_, _ = vtpm.ReadAttest(answer)
	})
}
