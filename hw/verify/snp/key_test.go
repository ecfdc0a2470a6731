package snp

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cima-project/cima/hw/verify/snp/snptest"
)

// source gives one certificate, and notes what it was asked for.
type source struct {
	leaf, above []byte
	err         error
	asked       []Key
	only        Line // it knows of this line alone
}

func (s *source) List(context.Context, Line, bool) ([]byte, error) {
	return nil, errors.New("not asked for")
}

func (s *source) Certificate(_ context.Context, _ *Report, k Key) (leaf, above []byte, err error) {
	s.asked = append(s.asked, k)
	if s.only != "" && s.only != k.Line {
		return nil, nil, &UnknownKeyError{k}
	}
	return s.leaf, s.above, s.err
}

// above is what stands above a chip's key, as AMD's service gives it.
func above(c *snptest.Chip) (text []byte) {
	for _, der := range [][]byte{c.Intermediate.Raw, c.Root.Raw} {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return text
}

// TestComplete: what the host didn't give is asked for by what the report says of its key, and
// holds then as if it had come along.
func TestComplete(t *testing.T) {
	for _, line := range Lines() {
		c := snptest.New(t, string(line), false)
		a, err := Parse(c.Report(t, data), nil)
		if err != nil {
			t.Fatal(err)
		}
		s := &source{leaf: c.Leaf.Raw, above: above(c)}
		chain, untrusted, err := a.Vouched(t.Context(), s, rootsOf(c), now)
		if err != nil || untrusted != nil || chain.Line != line || len(s.asked) != 1 {
			t.Fatalf("%s: %v, %v, asked %v", line, untrusted, err, s.asked)
		}
		chip := 128
		if line == Turin {
			chip = 16
		}
		if k := s.asked[0]; k.Line != line || len(k.Chip) != chip || !strings.HasPrefix(k.Chip, "0102030405060708") || k.TCB != a.ReportedTCB {
			t.Errorf("%s: asked for %+v", line, k)
		}
		if err := a.complete(t.Context(), s); err != nil || len(s.asked) != 1 {
			t.Errorf("it was asked for again: %v", err)
		}
	}
}

// TestCompleteWrongly: what a source gives is held against the report as what comes along is.
func TestCompleteWrongly(t *testing.T) {
	c, other, vlek := snptest.New(t, "Milan", false), snptest.New(t, "Milan", false), snptest.New(t, "Milan", true)
	broken := errors.New("no network")
	for name, s := range map[string]struct {
		from      *source
		untrusted string
		err       string
	}{
		"as it must be":             {&source{leaf: c.Leaf.Raw, above: above(c)}, "", ""},
		"of another chip":           {&source{leaf: other.Leaf.Raw, above: above(other)}, "not signed by the key of its certificate", ""},
		"without what stands above": {&source{leaf: c.Leaf.Raw}, "not trusted", ""}, // AMD's do not vouch for it
		"the root alone":            {&source{leaf: c.Leaf.Raw, above: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Root.Raw})}, "not trusted", ""},
		"a VLEK":                    {&source{leaf: vlek.Leaf.Raw, above: above(vlek)}, "", "certificate is of a VLEK"},
		"no certificate":            {&source{leaf: []byte("<html>"), above: above(c)}, "", "certificate 0"},
		"nothing":                   {&source{}, "", "certificate 0"},
		"above: no PEM":             {&source{leaf: c.Leaf.Raw, above: []byte("<html>")}, "", "must be PEM"},
		"above: too many":           {&source{leaf: c.Leaf.Raw, above: slices.Concat(above(c), above(c))}, "", "must be PEM of at most 2"},
		"above: too long":           {&source{leaf: c.Leaf.Raw, above: bytes.Repeat([]byte{'\n'}, maxChain+1)}, "", "at most 16384 bytes"},
		"unknown":                   {&source{only: Turin}, "", "AMD's service knows no Milan chip 0102030405060708… at TCB bl 4, tee 0, snp 24, ucode 219"},
		"failing":                   {&source{err: broken}, "", "no network"},
	} {
		a, err := Parse(c.Report(t, data), nil)
		if err != nil {
			t.Fatal(err)
		}
		chain, untrusted, err := a.Vouched(t.Context(), s.from, rootsOf(c), now)
		if !says(untrusted, s.untrusted) || !says(err, s.err) || (s.untrusted == "" && s.err == "") != (chain.Root != nil) {
			t.Errorf("%s: untrusted %v, must be %q; %v, must be %q", name, untrusted, s.untrusted, err, s.err)
		}
	}
}

// says reports whether an error has these words; nil has none.
func says(err error, want string) bool {
	if want == "" || err == nil {
		return want == "" && err == nil
	}
	return strings.Contains(err.Error(), want)
}

// TestUncertified: where nobody can give a certificate, nobody is asked, and the report says why.
func TestUncertified(t *testing.T) {
	c, vlek := snptest.New(t, "Milan", false), snptest.New(t, "Milan", true)
	for name, r := range map[string]struct {
		raw  []byte
		want string
	}{
		"masked":       {c.Report(t, data, func(raw []byte) { clear(raw[0x1A0:0x1E0]) }), "CHIP_ID is masked"},
		"by a VLEK":    {vlek.Report(t, data), "a VLEK signed it"},
		"unknown line": {c.Report(t, data, func(raw []byte) { raw[0x188] = 0x20 }), "family 0x20"},
	} {
		a, err := Parse(r.raw, nil)
		if err != nil {
			t.Fatal(err)
		}
		s := &source{leaf: c.Leaf.Raw}
		_, untrusted, err := a.Vouched(t.Context(), s, rootsOf(c), now)
		if err != nil || !says(untrusted, r.want) || len(s.asked) != 0 || Advice(untrusted) != "" {
			t.Errorf("%s: %v, %v, asked %v", name, untrusted, err, s.asked)
		}
	}
	a, err := Parse(c.Report(t, data), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, untrusted, err := a.Vouched(t.Context(), nil, rootsOf(c), now)
	if err != nil || untrusted == nil || !strings.Contains(Advice(untrusted), "--online") {
		t.Errorf("%v, %v", untrusted, err)
	}
	if _, err := a.verify(rootsOf(c), now); err == nil {
		t.Error("a report without a certificate was verified")
	}
}

// TestLineOfVersion2: a report that does not tell its line is of the one whose key is known.
func TestLineOfVersion2(t *testing.T) {
	for line, asked := range map[Line]int{Milan: 1, Genoa: 2} {
		c := snptest.New(t, string(line), false)
		a, err := Parse(c.Report(t, data, func(raw []byte) {
			binary.LittleEndian.PutUint32(raw, 2)
			clear(raw[0x188:0x18B])
		}), nil)
		if err != nil {
			t.Fatal(err)
		}
		s := &source{leaf: c.Leaf.Raw, above: above(c), only: line}
		if _, untrusted, err := a.Vouched(t.Context(), s, rootsOf(c), now); err != nil || untrusted != nil || len(s.asked) != asked {
			t.Errorf("%s: %v, %v, asked %v", line, untrusted, err, s.asked)
		}
	}
}

// TestFolderOfCertificates: a folder gives what its files hold, bounded.
func TestFolderOfCertificates(t *testing.T) {
	c, dir := snptest.New(t, "Turin", false), t.TempDir()
	a, err := Parse(c.Report(t, data), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = a.Vouched(t.Context(), Dir(dir), rootsOf(c), now)
	if _, absent := errors.AsType[*FileError](err); !absent {
		t.Errorf("an empty folder: %v", err)
	}
	keys, err := a.Keys()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, keys[0].FileName())
	write := func(path string, b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(path, c.Leaf.Raw)
	if _, untrusted, err := a.Vouched(t.Context(), Dir(dir), rootsOf(c), now); err != nil || untrusted == nil { // under AMD's own
		t.Errorf("without what stands above: %v, %v", untrusted, err)
	}
	a.Leaf = nil
	write(path+".chain", above(c))
	if _, untrusted, err := a.Vouched(t.Context(), Dir(dir), rootsOf(c), now); err != nil || untrusted != nil {
		t.Errorf("%v, %v", untrusted, err)
	}
	for _, long := range []string{path, path + ".chain"} {
		a.Leaf = nil
		write(path+".chain", above(c))
		write(long, make([]byte, maxChain+1))
		if _, _, err := a.Vouched(t.Context(), Dir(dir), rootsOf(c), now); err == nil || !strings.Contains(err.Error(), "at most") {
			t.Errorf("%s: %v", long, err)
		}
	}
}

// TestKeyNames: a key's name leads back to it, and nothing else is one.
func TestKeyNames(t *testing.T) {
	good := []Key{{Milan, strings.Repeat("0a", 64), TCB{4, 0, 0, 0, 0, 0, 24, 219}}, {Turin, "0102030405060708", TCB{1}}}
	for _, k := range good {
		if got, ok := ParseKey(k.String()); !ok || got != k {
			t.Errorf("%s: %+v", k, got)
		}
	}
	name := good[1].String()
	for _, bad := range []string{"", "turin", name + "-", name + "0", name[:len(name)-1], "rome" + name[5:], strings.ToUpper(name), "Turin" + name[5:],
		strings.Replace(name, "0102", "01", 1), strings.Replace(name, "0102", "0g02", 1), strings.Replace(good[0].String(), "0a", "0A", 1), "../" + name} {
		if k, ok := ParseKey(bad); ok {
			t.Errorf("%q is %+v", bad, k)
		}
	}
}

// TestDescribeLeaf: a certificate says whose key it is, under one of the roots.
func TestDescribeLeaf(t *testing.T) {
	c, other := snptest.New(t, "Milan", false), snptest.New(t, "Genoa", false)
	for name, d := range map[string]struct {
		der, above []byte
		roots      []*x509.Certificate
		want       string
	}{
		"as it must be":    {c.Leaf.Raw, above(c), rootsOf(c), ""},
		"among others":     {c.Leaf.Raw, above(c), append(rootsOf(other), c.Root), ""},
		"under AMD's":      {c.Leaf.Raw, above(c), AMDRoots(), "not trusted"},
		"by another":       {c.Leaf.Raw, above(other), rootsOf(c), `must be of "SEV-Milan"`},
		"an intermediate":  {c.Intermediate.Raw, above(c), rootsOf(c), "certificate 0"},
		"nothing above":    {c.Leaf.Raw, nil, rootsOf(c), "not trusted"},
		"a VLEK":           {snptest.New(t, "Milan", true).Leaf.Raw, nil, rootsOf(c), "VLEK"},
		"no certificate":   {[]byte("x"), nil, rootsOf(c), "certificate 0"},
		"nonsense above":   {c.Leaf.Raw, []byte("x"), rootsOf(c), "PEM"},
		"no root is given": {c.Leaf.Raw, above(c), nil, "not trusted"},
	} {
		for _, years := range []int{-10, 0, 20} { // the caller judges the time
			f, err := DescribeLeaf(d.der, d.above, d.roots, now.AddDate(years, 0, 0))
			if !says(err, d.want) || err == nil && (f.Key.Line != Milan || !f.Issued.Equal(snptest.From) || !f.Until.Equal(snptest.Until)) {
				t.Errorf("%s, %d years away: %+v, %v; must say %q", name, years, f, err, d.want)
			}
		}
	}
	if BuiltIn(c.Leaf.Raw) || BuiltIn([]byte("x")) {
		t.Error("AMD vouches for a test's chip")
	}
}

func FuzzDescribeLeaf(f *testing.F) {
	c := snptest.New(f, "Milan", false)
	f.Add(c.Leaf.Raw, above(c))
	f.Add(c.Leaf.Raw, []byte{})
	f.Fuzz(func(t *testing.T, der, above []byte) {
		if facts, err := DescribeLeaf(der, above, rootsOf(c), now); err == nil && !bytes.Equal(der, c.Leaf.Raw) {
			t.Errorf("a certificate that the root doesn't vouch for is taken: %+v", facts)
		}
	})
}

func FuzzParseKey(f *testing.F) {
	f.Add("turin-0102030405060708-0100000000000000")
	f.Fuzz(func(t *testing.T, text string) {
		if k, ok := ParseKey(text); ok && k.String() != text {
			t.Errorf("%q is read as %s", text, k)
		}
	})
}
