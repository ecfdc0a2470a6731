package dcap

import (
	"bytes"
	"testing"

	"github.com/cima-project/cima/hw/sim"
)

// TestLooseChains: the same certificates in another spelling.
func TestLooseChains(t *testing.T) {
	one := simulated(t, sim.Config{}).RootPEM()
	three := bytes.Repeat(one, 3)
	if _, err := parseChain(three); err != nil {
		t.Fatal(err)
	}
	if _, err := parseChain(append(bytes.Clone(three), 0)); err != nil {
		t.Errorf("with the zero byte that Intel's library writes: %v", err)
	}
	for name, text := range map[string][]byte{
		"two":             bytes.Repeat(one, 2),
		"four":            bytes.Repeat(one, 4),
		"words before":    append([]byte("hello\n"), three...),
		"words between":   bytes.Replace(three, []byte("-----END CERTIFICATE-----\n-"), []byte("-----END CERTIFICATE-----\n\n-"), 1),
		"words behind":    append(bytes.Clone(three), '\n'),
		"two zero bytes":  append(bytes.Clone(three), 0, 0),
		"carriage return": bytes.ReplaceAll(three, []byte("\n"), []byte("\r\n")),
		"headers":         bytes.Replace(three, []byte("CERTIFICATE-----\n"), []byte("CERTIFICATE-----\na: b\n\n"), 1),
		"another type":    bytes.ReplaceAll(three, []byte(" CERTIFICATE"), []byte(" X509 CERTIFICATE")),
		"nothing":         nil,
	} {
		if _, err := parseChain(text); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
