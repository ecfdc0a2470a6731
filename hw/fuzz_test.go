package hw

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

func FuzzParseQGS(f *testing.F) {
	good := []byte{1, 0, 0, 0, 1, 0, 0, 0, 27, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 'i', 'q', 'q'}
	f.Add(good)
	f.Add(good[:16])
	f.Add(bytes.Repeat([]byte{0xff}, 40))
	f.Fuzz(func(t *testing.T, message []byte) {
		quote, err := parseQGS(message)
		if err != nil {
			if _, coded := errors.AsType[*QGSError](err); quote != nil || !coded && !errors.Is(err, ErrMalformed) {
				t.Fatalf("%d bytes and %v", len(quote), err)
			}
			return
		}
		if len(quote) == 0 || len(quote)+24 > len(message) || !bytes.HasSuffix(message, quote) {
			t.Fatalf("quote of %d bytes in a message of %d", len(quote), len(message))
		}
	})
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

func FuzzAttestConf(f *testing.F) {
	f.Add("port=4050")
	f.Add("# port = 1\nport = 2 # two\n")
	f.Fuzz(func(t *testing.T, text string) {
		if port, err := parseAttestConf(text); err != nil && port != 0 {
			t.Fatalf("port %d and %v", port, err)
		}
	})
}
