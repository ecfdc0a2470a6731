package snp

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var testdata = flag.String("testdata", "", "`DIR` of the project's testdata, which is not part of the tree")

// fixture reads a file of others' evidence, or leaves the test out.
func fixture(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(*testdata, "platforms", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type signedFixture struct {
	report, leaf string
	at           string // a day in the leaf's time; "" for 2026-11-30
	line         Line
	refused      string // "": it holds
}

func (f *signedFixture) when() time.Time {
	at, err := time.Parse(time.DateOnly, cmp.Or(f.at, "2026-11-30"))
	if err != nil {
		panic(err)
	}
	return at
}

// fixtures are public reports and certificates of real processors, and whether they hold.
var fixtures = []signedFixture{
	{"go-sev-guest/attestation.bin", "go-sev-guest/vcek.testcer", "", Milan, ""},
	{"attestation-rs/snp/test-report.bin", "attestation-rs/snp/test-vcek.der", "", Milan, ""},
	{"attestation-rs/snp/test-report.bin", "attestation-rs/snp/test-vcek-invalid-new.der", "", "", "is not signed by"},
	{"attestation-rs/snp/test-report.bin", "attestation-rs/snp/test-vcek-invalid-legacy.der", "", "", "is not signed by"},
	{"attestation-rs/snp/test-vlek-report.bin", "attestation-rs/snp/test-vlek.der", "2025-06-01", Milan, ""},
	{"attestation-rs/snp/test-vlek-report.bin", "attestation-rs/snp/test-vlek.der", "", "", "SEV-VLEK is good from 2024-12-10 to 2025-12-10"},
	{"attestation-rs/snp/live-report-v5-genoa.bin", "attestation-rs/snp/live-vcek-genoa.der", "", Genoa, ""},
	{"attestation-rs/az_snp/evidence-v1.report", "attestation-rs/az_snp/evidence-v1.vcek", "", Milan, ""},
	{"attestation-rs/az_snp/live-evidence.report", "attestation-rs/az_snp/live-evidence.vcek", "", Milan, ""},
	{"attestation-rs/az_snp/milan-v3-attestation.report", "attestation-rs/az_snp/milan-v3-attestation.vcek", "", Milan, ""},
	{"attestation-rs/az_snp/hcl-report.bin", "attestation-rs/az_snp/vcek.pem", "", Milan, ""},
	{"trustee/az-snp-vtpm/genoa.report", "trustee/az-snp-vtpm/genoa.pem", "", Genoa, ""},
	{"trustee/az-snp-vtpm/genoa.report", "trustee/az-snp-vtpm/vcek-genoa.pem", "", Genoa, ""},
	{"virtee/report_milan.hex", "virtee/vcek_milan.der", "", Milan, ""},
	{"trustee/snp/test-report.bin", "trustee/snp/test-vcek.der", "", Milan, ""},
	{"trustee/snp/test-report.bin", "trustee/snp/test-vcek-invalid-new.der", "", "", "is not signed by"},
	{"trustee/snp/test-report.bin", "trustee/snp/test-vcek-invalid-legacy.der", "", "", "is not signed by"},
	{"trustee/snp/test-vlek-report.bin", "trustee/snp/test-vlek.der", "2025-06-01", Milan, ""},
	{"trustee/az-snp-vtpm/hcl-report.bin", "trustee/az-snp-vtpm/vcek.pem", "", Milan, ""},
	{"attestation-rs/az_snp/hcl-report.bin", "attestation-rs/az_snp/imds-vcek.der", "", "", "is not signed by the key of its certificate"},
	{"virtee/report_milan.hex", "virtee/vcek_turin.der", "", "", "is not signed by the key of its certificate"},
	{"attestation-rs/az_snp/live-evidence.report", "attestation-rs/az_snp/evidence-v1.vcek", "", "", "is not signed by the key of its certificate"},
	{"attestation-rs/snp/test-vlek-report.bin", "virtee/vcek_milan.der", "", "", "is signed by a VLEK, and the certificate is of a VCEK"},
}

// readFixture reads a report in whatever form its file has.
func readFixture(t *testing.T, name string) []byte {
	t.Helper()
	b := fixture(t, name)
	if raw, err := hex.DecodeString(strings.TrimSpace(string(b))); err == nil {
		b = raw
	}
	if bytes.HasPrefix(b, []byte("HCLA")) {
		b = b[0x20:][:reportSize]
	}
	return b
}

func readLeafFixture(t *testing.T, name string) []byte {
	t.Helper()
	b := fixture(t, name)
	if block, _ := pem.Decode(b); block != nil {
		b = block.Bytes
	}
	return b
}

func TestFixtures(t *testing.T) {
	if *testdata == "" {
		return // only with -args -testdata DIR: CONTRIBUTING.md
	}
	for _, f := range fixtures {
		report, leaf := readFixture(t, f.report), readLeafFixture(t, f.leaf)
		chain, err := verified(report, [][]byte{leaf}, AMDRoots(), f.when())
		switch {
		case f.refused == "" && (err != nil || chain.Line != f.line):
			t.Errorf("%s: line %q, %v", f.report, chain.Line, err)
		case f.refused != "" && (err == nil || !strings.Contains(err.Error(), f.refused)):
			t.Errorf("%s by %s: %v, must say %q", f.report, f.leaf, err, f.refused)
		}
		t.Logf("%s by %s: %s, %v", f.report, f.leaf, chain.Line, err)
	}
}

// verified reads a report with its certificates, and verifies it.
func verified(report []byte, certificates [][]byte, roots []*x509.Certificate, at time.Time) (Chain, error) {
	a, err := Parse(report, certificates)
	if err != nil {
		return Chain{}, err
	}
	return a.verify(roots, at)
}

// TestFixturesBitByBit: no bit of a real report is free.
func TestFixturesBitByBit(t *testing.T) {
	if *testdata == "" {
		return // only with -args -testdata DIR: CONTRIBUTING.md
	}
	for _, f := range fixtures {
		if f.refused != "" {
			continue
		}
		report := readFixture(t, f.report)
		free := freeBits(t, report, [][]byte{readLeafFixture(t, f.leaf)}, AMDRoots(), f.when())
		if len(free) > 0 {
			t.Errorf("%s: free bits: %v", f.report, free)
		}
		t.Logf("%s: %d bits, %d free", f.report, len(report)*8, len(free))
	}
}

// TestTurinFixture: the one public certificate of a Turin holds; no report of it is public.
func TestTurinFixture(t *testing.T) {
	if *testdata == "" {
		return // only with -args -testdata DIR: CONTRIBUTING.md
	}
	c, err := x509.ParseCertificate(readLeafFixture(t, "virtee/vcek_turin.der"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := readLeaf(c)
	if err != nil || l.line != Turin || len(l.hardwareID) != 8 || l.tcb != (TCB{7: 9}) {
		t.Fatalf("%+v, %v", l, err)
	}
	a := &Attestation{Report: &Report{}, Leaf: l}
	if chain, err := a.chain(AMDRoots(), c.NotBefore); err != nil || chain.Root.Subject.CommonName != "ARK-Turin" {
		t.Errorf("%v, %v", chain.Root, err)
	}
}

// TestFixturesWithoutCertificates: a real report names the key that signed it, and AMD's own intermediate vouches for that
// key's certificate: no chain need be asked for.
func TestFixturesWithoutCertificates(t *testing.T) {
	if *testdata == "" {
		return // only with -args -testdata DIR: CONTRIBUTING.md
	}
	for _, f := range fixtures {
		if f.refused != "" || f.at != "" { // a VLEK's certificate is not to be had
			continue
		}
		leaf := readLeafFixture(t, f.leaf)
		facts, err := DescribeLeaf(leaf, nil, AMDRoots(), f.when())
		if err != nil || !BuiltIn(leaf) {
			t.Errorf("%s: %v", f.leaf, err)
			continue
		}
		a, err := Parse(readFixture(t, f.report), nil)
		if err != nil {
			t.Fatal(err)
		}
		s := &source{leaf: leaf, only: facts.Key.Line}
		if _, untrusted, err := a.Vouched(t.Context(), s, AMDRoots(), f.when()); err != nil || untrusted != nil || s.asked[len(s.asked)-1] != facts.Key {
			t.Errorf("%s: %v, %v; asked for %v, must be %v", f.report, untrusted, err, s.asked, facts.Key)
		}
	}
}
