package hw

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

// A quote of version 5 has a body of one of three types, each of one size.
func TestBodies(t *testing.T) {
	for kind, size := range map[uint16]int{bodyTypeTDX10: quoteBody10, bodyTypeTDX15: quoteBody15, bodyTypeTDXEx: quoteBodyEx} {
		for _, wrong := range []int{0, 1} {
			q := make([]byte, 48, 1024)
			q[0], q[2], q[4] = 5, 2, teeTDX
			q = binary.LittleEndian.AppendUint16(q, kind)
			q = binary.LittleEndian.AppendUint32(q, uint32(size+wrong))
			body := make([]byte, size+wrong)
			body[bodyMRTD], body[bodyRTMR], body[bodyData] = 1, 2, 3
			q = append(append(q, body...), 3, 0, 0, 0, 's', 'i', 'g', 0)
			quote, registers, data, err := cutQuote(q)
			if (err == nil) != (wrong == 0) {
				t.Errorf("type %d of %d bytes: %v", kind, size+wrong, err)
			}
			if err == nil && (len(quote) != len(q)-1 || registers.MRTD[0] != 1 || registers.RTMR[0][0] != 2 || data[0] != 3) {
				t.Errorf("type %d: %d bytes, %v", kind, len(quote), registers)
			}
		}
	}
}

func FuzzCutQuote(f *testing.F) {
	for _, version := range []byte{4, 5} {
		q := make([]byte, 48, 1024)
		q[0], q[2], q[4] = version, 2, teeTDX
		size := quoteBody10
		if version == 5 {
			size = quoteBody15
			q = append(q, bodyTypeTDX15, 0)
			q = binary.LittleEndian.AppendUint32(q, uint32(size))
		}
		q = append(q, make([]byte, size)...)
		q = append(q, 3, 0, 0, 0, 's', 'i', 'g', 0, 0)
		f.Add(q)
		f.Add(q[:len(q)-3])
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		quote, registers, data, err := cutQuote(raw)
		if err != nil {
			if quote != nil || !errors.Is(err, ErrMalformed) {
				t.Fatalf("%d bytes and %v", len(quote), err)
			}
			return
		}
		if !bytes.HasPrefix(raw, quote) || len(quote) < quoteHeader+quoteBody10+5 {
			t.Fatalf("quote of %d bytes out of %d", len(quote), len(raw))
		}
		again, same, sameData, err := cutQuote(quote)
		if err != nil || !bytes.Equal(again, quote) || same != registers || sameData != data {
			t.Fatalf("cut again: %v", err)
		}
	})
}
