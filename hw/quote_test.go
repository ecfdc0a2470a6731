package hw

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

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
