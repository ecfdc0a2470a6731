package dcap

import (
	"bytes"
	"crypto/x509"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var (
	public    = flag.String("testdata", "", "`DIR` of the project's testdata, which is not part of the tree")
	atFixture = time.Date(2026, 3, 20, 0, 0, 0, 0, time.UTC)
)

// fixtures are public quotes of TDs, of Azure's among them, and what is known of them.
var fixtures = []struct {
	name    string
	version int
	debug   bool   // TDATTRIBUTES has the bit DEBUG
	refused string // "": Intel vouches for it
	hcl     string // the HCL report whose text the quote is over
}{
	{"attestation-rs/az_tdx/live-td-quote.bin", 4, false, "", ""},
	{"attestation-rs/az_tdx/td-quote.bin", 4, false, "", "attestation-rs/az_tdx/hcl-report.bin"},
	{"trustee/az-tdx-vtpm/td-quote.bin", 4, false, "", "trustee/az-tdx-vtpm/hcl-report.bin"},
	{"trustee/tdx_quote_4.dat", 4, true, "", ""},
	{"trustee/tdx_quote_5.dat", 5, false, "", ""},
	{"trustee/tdx_quote_6.dat", 4, false, "", ""},
	{"own-quote-v5-type4-unsigned.bin", 5, false, "not signed by the attestation key", ""},
}

func fixture(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(*public, "platforms", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFixtures(t *testing.T) {
	if *public == "" {
		return // only with -args -testdata DIR: CONTRIBUTING.md
	}
	for _, f := range fixtures {
		q, behind, err := CutQuote(fixture(t, f.name))
		if err != nil {
			t.Errorf("%s: %v", f.name, err)
			continue
		}
		err = q.Verify([]*x509.Certificate{IntelRoot()}, atFixture)
		if f.refused == "" && err != nil || f.refused != "" && (err == nil || !strings.Contains(err.Error(), f.refused)) {
			t.Errorf("%s: %v, must say %q", f.name, err, f.refused)
		}
		if q.Version != f.version || (q.Attributes[0]&1 == 1) != f.debug {
			t.Errorf("%s: version %d, attributes %x", f.name, q.Version, q.Attributes)
		}
		const inHCL = 0x20 + 128 // REPORTDATA of the TDREPORT in it
		if f.hcl != "" && !bytes.Equal(fixture(t, f.hcl)[inHCL:][:64], q.ReportData[:]) {
			t.Errorf("%s is not over the text of %s", f.name, f.hcl)
		}
		t.Logf("%s: version %d, DEBUG %v, %d bytes behind it: %v", f.name, q.Version, f.debug, behind, err)
	}
}

// TestFixturesBitByBit: no bit of a real quote is free.
func TestFixturesBitByBit(t *testing.T) {
	if *public == "" {
		return // only with -args -testdata DIR: CONTRIBUTING.md
	}
	roots := []*x509.Certificate{IntelRoot()}
	for _, f := range fixtures {
		raw := fixture(t, f.name)
		_, behind, err := CutQuote(raw)
		if err != nil {
			t.Fatal(err)
		}
		raw = raw[:len(raw)-behind]
		free := 0
		for bit := range len(raw) * 8 {
			changed := bytes.Clone(raw)
			changed[bit/8] ^= 1 << (bit % 8)
			if q, err := ParseQuote(changed); err == nil && q.Verify(roots, atFixture) == nil {
				free++
				t.Errorf("%s: byte %#x, bit %d is free", f.name, bit/8, bit%8)
			}
		}
		t.Logf("%s: %d bits, %d free", f.name, len(raw)*8, free)
	}
}
