package dcap

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"testing"

	"github.com/google/go-tdx-guest/testing/testdata"
)

// Half of the published quotes are text.
func TestPlain(t *testing.T) {
	n, err := QuoteLength(testdata.RawQuote)
	if err != nil {
		t.Fatal(err)
	}
	quote := testdata.RawQuote[:n]
	wrapped := base64.StdEncoding.EncodeToString(quote)
	for form, text := range map[string]string{
		"hex": hex.EncodeToString(quote) + "\n", "base64": wrapped[:76] + "\n" + wrapped[76:],
		"CMW": `["application/octet-stream","` + base64.RawURLEncoding.EncodeToString(quote) + `"]`, "": string(quote),
	} {
		if got, as := Plain([]byte(text)); as != form || !bytes.Equal(got, quote) {
			t.Errorf("%q was read as %q, %d bytes", form, as, len(got))
		}
	}
	if got, as := Plain([]byte("0x" + hex.EncodeToString(quote))); as != "hex" || !bytes.Equal(got, quote) {
		t.Error(as)
	}
	for _, text := range []string{"", "quote", "[1,2,3]", "[[[[[[[[[[", "not a quote at all", "\x04\x00\x02\x00"} {
		if got, as := Plain([]byte(text)); as != "" || string(got) != text {
			t.Errorf("%q was read as %q", text, as)
		}
	}
}

func FuzzPlain(f *testing.F) {
	f.Add([]byte("0x0400"))
	f.Add([]byte(`["a","BAAC"]`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if got, form := Plain(raw); form == "" && !bytes.Equal(got, raw) || form != "" && len(got) > len(raw) {
			t.Errorf("%q: %q", raw, form)
		}
	})
}
