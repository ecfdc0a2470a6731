//go:build linux

package hw

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
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

func FuzzAttestConf(f *testing.F) {
	f.Add("port=4050")
	f.Add("# port = 1\nport = 2 # two\n")
	f.Fuzz(func(t *testing.T, text string) {
		c := parseAttestConf(text)
		if len(c.passed) > maxPassed {
			t.Fatalf("%d lines are told", len(c.passed))
		}
		if c.port != 0 && !strings.Contains(text, fmt.Sprint(c.port)) {
			t.Fatalf("port %d of %q", c.port, text)
		}
	})
}
