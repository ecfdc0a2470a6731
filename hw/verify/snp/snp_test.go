package snp

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cima-project/cima/hw/verify/snp/snptest"
)

// now is a time at which the certificates of tests are good.
var now = snptest.From.AddDate(0, 6, 0)

var data = [64]byte{1, 2, 3}

func rootsOf(c *snptest.Chip) []*x509.Certificate { return []*x509.Certificate{c.Root} }

func TestEachLineAndKey(t *testing.T) {
	for _, line := range Lines() {
		for _, vlek := range []bool{false, true} {
			c := snptest.New(t, string(line), vlek)
			for version := uint32(2); version <= 5; version++ {
				raw := c.Report(t, data, func(raw []byte) {
					binary.LittleEndian.PutUint32(raw, version)
					if version == 2 {
						clear(raw[0x188:0x18B])
					}
					if version == 5 {
						raw[0x1F8], raw[0x200] = 1, 3
					}
				})
				a, err := Parse(raw, c.Certificates())
				if err != nil {
					t.Fatalf("%s, VLEK %v, version %d: %v", line, vlek, version, err)
				}
				chain, err := a.verify(rootsOf(c), now)
				if err != nil || chain.Line != line || a.ReportData != data || a.Measurement[1] != 0xA1 {
					t.Errorf("%s, VLEK %v, version %d: %v, %v", line, vlek, version, chain.Line, err)
				}
				if vlek != (a.Leaf.Provider == "CN=cc-test.example") {
					t.Errorf("provider %q", a.Leaf.Provider)
				}
				if version == 5 && (a.LaunchFixes != 1 || a.CurrentFixes != 3) {
					t.Errorf("fixes %d, %d", a.LaunchFixes, a.CurrentFixes)
				}
			}
		}
	}
}

// TestForgedChain: names are AMD's, and keys are not.
func TestForgedChain(t *testing.T) {
	c := snptest.New(t, "Milan", false)
	raw := c.Report(t, data)
	var untrusted *untrustedRootError
	for name, certificates := range map[string][][]byte{
		"whole":                    c.Certificates(),
		"without root":             c.Certificates()[:2],
		"the root is AMD's":        {c.Leaf.Raw, c.Intermediate.Raw, embedded(Milan, "ark").Raw},
		"intermediate by AMD":      {c.Leaf.Raw, embedded(Milan, "ask").Raw, c.Root.Raw},
		"leaf alone":               {c.Leaf.Raw},
		"leaf and AMD's":           {c.Leaf.Raw, embedded(Milan, "ask").Raw, embedded(Milan, "ark").Raw},
		"an intermediate too many": {c.Leaf.Raw, c.Intermediate.Raw, c.Intermediate.Raw},
		"two roots":                {c.Leaf.Raw, c.Root.Raw, c.Root.Raw},
		"two leaves":               {c.Leaf.Raw, c.Leaf.Raw},
		"none":                     {},
	} {
		if _, err := verified(raw, certificates, AMDRoots(), now); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := verified(raw, c.Certificates(), AMDRoots(), now); !errors.As(err, &untrusted) || untrusted.root == nil {
		t.Errorf("an own root: %v", err)
	}
	// The same chain under its root, for comparison; and each of its certificates by another.
	other := snptest.New(t, "Milan", false)
	if _, err := verified(raw, c.Certificates(), rootsOf(c), now); err != nil {
		t.Fatal(err)
	}
	if _, err := verified(raw, append([][]byte{other.Leaf.Raw}, c.Certificates()[1:]...), rootsOf(c), now); err == nil {
		t.Error("signed by another chip: taken")
	}
}

// TestTimes: each certificate of the chain is held against the time.
func TestTimes(t *testing.T) {
	c := snptest.New(t, "Genoa", false)
	raw := c.Report(t, data)
	for _, at := range []time.Time{snptest.From.Add(-time.Second), snptest.Until.Add(time.Second)} {
		if _, err := verified(raw, c.Certificates(), rootsOf(c), at); err == nil || !strings.Contains(err.Error(), "is good from") {
			t.Errorf("at %s: %v", at, err)
		}
	}
	short := snptest.New(t, "Genoa", false, func(leaf *x509.Certificate) { leaf.NotAfter = snptest.From.AddDate(0, 1, 0) })
	if _, err := verified(short.Report(t, data), short.Certificates(), rootsOf(short), now); err == nil || !strings.Contains(err.Error(), "SEV-VCEK is good from") {
		t.Errorf("an old leaf: %v", err)
	}
}

// TestReportAgainstKey: what the report says must be what the key's certificate says.
func TestReportAgainstKey(t *testing.T) {
	milan, vlek := snptest.New(t, "Milan", false), snptest.New(t, "Milan", true)
	for name, c := range map[string]struct {
		chip   *snptest.Chip
		change func(raw []byte)
		want   string // "": it holds
	}{
		"a newer firmware":       {milan, func(raw []byte) { raw[0x186]++ }, "REPORTED_TCB is bl 4, tee 0, snp 25, ucode 219"},
		"an older microcode":     {milan, func(raw []byte) { raw[0x187]-- }, "REPORTED_TCB"},
		"a spare part":           {milan, func(raw []byte) { raw[0x182] = 1 }, "spl4 1"},
		"another chip":           {milan, func(raw []byte) { raw[0x1A0]++ }, "CHIP_ID"},
		"a masked chip":          {milan, func(raw []byte) { clear(raw[0x1A0:0x1E0]) }, ""},
		"another line":           {milan, func(raw []byte) { raw[0x189] = 0x11 }, "family 0x19, model 0x11"},
		"an unknown line":        {milan, func(raw []byte) { raw[0x188] = 0x20 }, "family 0x20"},
		"a VLEK's chip":          {vlek, func(raw []byte) { raw[0x1A0] = 7 }, ""},
		"a VLEK's newer":         {vlek, func(raw []byte) { raw[0x180]++ }, "REPORTED_TCB"},
		"a VLEK's word of VCEK":  {vlek, func(raw []byte) { raw[0x48] = 0 }, "signed by a VCEK, and the certificate is of a VLEK"},
		"other parts of the TCB": {milan, func(raw []byte) { raw[0x38]++; raw[0x1E0] = 1; raw[0x1F0] = 9 }, ""}, // the caller's to judge
	} {
		_, err := verified(c.chip.Report(t, data, c.change), c.chip.Certificates(), rootsOf(c.chip), now)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, must say %q", name, err, c.want)
		}
	}
}

// TestReservedIsSigned: reports that a firmware signed, and that say what we don't know.
func TestReservedIsSigned(t *testing.T) {
	c := snptest.New(t, "Milan", false)
	for name, change := range map[string]func(raw []byte){
		"version 1":        func(raw []byte) { raw[0] = 1 },
		"version 6":        func(raw []byte) { raw[0] = 6 },
		"algorithm 2":      func(raw []byte) { raw[0x34] = 2 },
		"signed by none":   func(raw []byte) { raw[0x48] = 7 << 2 },
		"key masked":       func(raw []byte) { raw[0x48] = 2 },
		"key info, bit 5":  func(raw []byte) { raw[0x48] = 1 << 5 },
		"author's, unused": func(raw []byte) { raw[0x110] = 1 },
		"VMPL 4":           func(raw []byte) { raw[0x30] = 4 },
		"the host's":       func(raw []byte) { copy(raw[0x30:], "\xff\xff\xff\xff") },
		"at 4C":            func(raw []byte) { raw[0x4F] = 1 },
		"at 18B":           func(raw []byte) { raw[0x18B] = 1 },
		"at 19F":           func(raw []byte) { raw[0x19F] = 1 },
		"at 1EB":           func(raw []byte) { raw[0x1EB] = 1 },
		"at 1EF":           func(raw []byte) { raw[0x1EF] = 1 },
		"at 1F8":           func(raw []byte) { raw[0x1F8] = 1 },
		"at 207":           func(raw []byte) { raw[0x207] = 1 },
		"at 29F":           func(raw []byte) { raw[0x29F] = 1 },
		"CPU in version 2": func(raw []byte) { raw[0] = 2 },
		"at 330":           func(raw []byte) { raw[0x330] = 1 },
		"at 49F":           func(raw []byte) { raw[0x49F] = 1 },
	} {
		if _, err := Parse(c.Report(t, data, change), c.Certificates()); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	for _, n := range []int{0, 1, reportSize - 1, reportSize + 1} {
		if _, err := parseReport(make([]byte, n)); err == nil {
			t.Errorf("%d bytes: taken", n)
		}
	}
}

// TestLeaves: certificates that AMD might have signed, and that say what we don't know.
func TestLeaves(t *testing.T) {
	add := func(e pkix.Extension) func(*x509.Certificate) {
		return func(leaf *x509.Certificate) { leaf.ExtraExtensions = append(leaf.ExtraExtensions, e) }
	}
	drop := func(arc ...int) func(*x509.Certificate) {
		return func(leaf *x509.Certificate) {
			leaf.ExtraExtensions = slices.DeleteFunc(leaf.ExtraExtensions, func(e pkix.Extension) bool { return slices.Equal(e.Id[len(amd):], arc) })
		}
	}
	with := func(e pkix.Extension) func(*x509.Certificate) {
		return func(leaf *x509.Certificate) { drop(e.Id[len(amd):]...)(leaf); add(e)(leaf) }
	}
	for name, c := range map[string]struct {
		change func(*x509.Certificate)
		want   string
	}{
		"as AMD's":              {func(*x509.Certificate) {}, ""},
		"a wrapped id":          {with(snptest.Extension(append([]byte{4, 64}, countUp(64)...), 4)), ""},
		"a stepping":            {with(snptest.Extension([]byte("\x16\x08Milan-B0"), 2)), ""},
		"an unknown extension":  {add(snptest.Extension([]byte{5, 0}, 6)), "1 extensions of AMD's arc that are unknown"},
		"Turin's FMC":           {add(snptest.Extension([]byte{2, 1, 0}, 3, 9)), "unknown"},
		"a part is missing":     {drop(3, 4), "3.4 must be there"},
		"no hardware id":        {drop(4), "hardware id must have 64 bytes"},
		"a short hardware id":   {with(snptest.Extension(countUp(8), 4)), "hardware id must have 64 bytes"},
		"no product":            {drop(2), "3704.1.2 must be there"},
		"an unknown product":    {with(snptest.Extension([]byte("\x16\x06Venice"), 2)), `product "Venice", which is unknown`},
		"another line":          {with(snptest.Extension([]byte("\x16\x05Genoa"), 2)), `is of "SEV-Milan", and must be of "SEV-Genoa"`},
		"structure 2":           {with(snptest.Extension([]byte{2, 1, 2}, 1)), "structure must be of version 0 or 1, not 2"},
		"a part of 256":         {with(snptest.Extension([]byte{2, 2, 1, 0}, 3, 1)), "must be 0 to 255, not 256"},
		"a part below zero":     {with(snptest.Extension([]byte{2, 1, 0xFF}, 3, 1)), "must be 0 to 255, not -1"},
		"a part and more":       {with(snptest.Extension([]byte{2, 1, 4, 0}, 3, 1)), "can't be read"},
		"a part in loose DER":   {with(snptest.Extension([]byte{2, 2, 0, 4}, 3, 1)), "can't be read"},
		"a VLEK's provider":     {add(snptest.Extension([]byte("\x16\x01x"), 5)), "unknown"},
		"of another":            {func(leaf *x509.Certificate) { leaf.Subject.CommonName = "SEV-VXEK" }, "must be of SEV-VCEK or SEV-VLEK"},
		"an authority":          {func(leaf *x509.Certificate) { leaf.IsCA, leaf.BasicConstraintsValid = true, true }, "no authority's"},
		"an unknown must":       {add(pkix.Extension{Id: []int{1, 2, 3}, Critical: true, Value: []byte{5, 0}}), "critical extension"},
		"an unknown, by others": {add(pkix.Extension{Id: []int{1, 2, 3}, Value: []byte{5, 0}}), ""},
	} {
		chip := snptest.New(t, "Milan", false, c.change)
		_, err := verified(chip.Report(t, data), chip.Certificates(), rootsOf(chip), now)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, must say %q", name, err, c.want)
		}
	}
}

func countUp(n int) (b []byte) {
	for i := range n {
		b = append(b, byte(i+1))
	}
	return b
}

var exhaustive = flag.Bool("exhaustive", false, "flip every bit of certificates, and not each thirteenth")

// freeBits flips each bit of a report alone. It checks the
// report's signature by itself first, because RSA takes most of the time: a report that the
// key didn't sign is refused, whatever else holds.
func freeBits(t *testing.T, report []byte, certificates [][]byte, roots []*x509.Certificate, at time.Time) (free []string) {
	t.Helper()
	if _, err := verified(report, certificates, roots, at); err != nil {
		t.Fatal(err)
	}
	for bit := range len(report) * 8 {
		changed := bytes.Clone(report)
		changed[bit/8] ^= 1 << (bit % 8)
		a, err := Parse(changed, certificates)
		if err != nil || !a.signed() {
			continue
		}
		if _, err := a.verify(roots, at); err == nil {
			free = append(free, fmt.Sprintf("report %#x, bit %d", bit/8, bit%8))
		}
	}
	return free
}

// TestBitByBit: no bit of a report is free. What is free is another thing: whoever has a
// report can write its signature as (R, n − S) too.
func TestBitByBit(t *testing.T) {
	c := snptest.New(t, "Milan", false)
	if free := freeBits(t, c.Report(t, data), c.Certificates(), rootsOf(c), now); len(free) > 0 {
		t.Errorf("free bits: %v", free)
	}
}

// TestCertificatesBitByBit: no bit of a certificate that came with a report is free.
func TestCertificatesBitByBit(t *testing.T) {
	step := 13
	if *exhaustive {
		step = 1
	}
	c := snptest.New(t, "Milan", false)
	report := c.Report(t, data)
	for i, der := range c.Certificates() {
		for bit := 0; bit < len(der)*8; bit += step {
			all := c.Certificates()
			all[i] = bytes.Clone(der)
			all[i][bit/8] ^= 1 << (bit % 8)
			if _, err := verified(report, all, rootsOf(c), now); err == nil {
				t.Errorf("certificate %d: byte %#x, bit %d is free", i, bit/8, bit%8)
			}
		}
	}
}

func TestRevocations(t *testing.T) {
	c, other := snptest.New(t, "Milan", false), snptest.New(t, "Genoa", false)
	chain, err := verified(c.Report(t, data), c.Certificates(), rootsOf(c), now)
	if err != nil {
		t.Fatal(err)
	}
	next := now.AddDate(0, 1, 0)
	flipped := c.RevocationList(t, next)
	flipped[len(flipped)-1] ^= 1
	for name, l := range map[string]struct {
		list    []byte
		revoked int
		want    string
	}{
		"nothing":          {c.RevocationList(t, next), 0, ""},
		"another's serial": {c.RevocationList(t, next, big.NewInt(1)), 0, ""},
		"the intermediate": {c.RevocationList(t, next, big.NewInt(1), c.Intermediate.SerialNumber), 2, ""}, // the root has the same number here
		"out of date":      {c.RevocationList(t, now.Add(-time.Second)), 0, "the list is good from"},
		"by another":       {other.RevocationList(t, next), 0, "the list is by"},
		"not signed":       {flipped, 0, "signature doesn't hold"},
		"no list":          {[]byte("<html>"), 0, "x509"},
		"empty":            {nil, 0, "x509"},
	} {
		revoked, facts, err := chain.Revocations(l.list, now)
		if l.want == "" && (err != nil || len(revoked) != l.revoked || !facts.Until.Equal(next) || !facts.Issued.Equal(snptest.From)) || l.want != "" && (err == nil || !strings.Contains(err.Error(), l.want)) {
			t.Errorf("%s: %q, %+v, %v", name, revoked, facts, err)
		}
	}

	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, c.ListName()), c.RevocationList(t, next), 0o600); err != nil {
		t.Fatal(err)
	}
	if der, err := Dir(dir).List(t.Context(), Milan, false); err != nil || len(der) == 0 {
		t.Errorf("%d bytes, %v", len(der), err)
	}
	if _, err := Dir(dir).List(t.Context(), Milan, true); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a VLEK's: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "amd-vlek-milan.crl"), make([]byte, maxList+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Dir(dir).List(t.Context(), Milan, true); err == nil {
		t.Error("a list of a mebibyte and more: taken")
	}
}

// TestPublishedRoots: what is in the binary is what AMD published, and each signs what is
// below it.
func TestPublishedRoots(t *testing.T) {
	at := time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)
	for _, l := range Lines() {
		root := embedded(l, "ark")
		for what, name := range map[string]string{"ark": "ARK-", "ask": "SEV-", "asvk": "SEV-VLEK-"} {
			if err := wellSigned(embedded(l, what), root, name+string(l), at); err != nil {
				t.Error(err)
			}
		}
	}
	if roots := AMDRoots(); len(roots) != 3 {
		t.Errorf("%d roots", len(roots))
	}
}

func FuzzParse(f *testing.F) {
	c := snptest.New(f, "Milan", false)
	f.Add(c.Report(f, data), c.Leaf.Raw, c.Intermediate.Raw)
	vlek := snptest.New(f, "Turin", true)
	f.Add(vlek.Report(f, data), vlek.Leaf.Raw, vlek.Root.Raw)
	f.Fuzz(func(t *testing.T, report, leaf, above []byte) {
		a, err := Parse(report, [][]byte{leaf, above})
		if err != nil {
			return
		}
		if !bytes.Equal(a.raw, report) {
			t.Error("the report is not the one that was read")
		}
		_, _ = a.verify(AMDRoots(), now)
	})
}

func FuzzRevocations(f *testing.F) {
	c := snptest.New(f, "Milan", false)
	chain, err := verified(c.Report(f, data), c.Certificates(), rootsOf(c), now)
	if err != nil {
		f.Fatal(err)
	}
	list := c.RevocationList(f, now.AddDate(0, 1, 0), big.NewInt(5))
	f.Add(list)
	f.Fuzz(func(t *testing.T, der []byte) {
		if _, _, err := chain.Revocations(der, now); err == nil && !bytes.Equal(der, list) {
			t.Error("a list that the root didn't sign is taken")
		}
	})
}
