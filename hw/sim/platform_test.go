package sim

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json/v2"
	"encoding/pem"
	"math/big"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-eventlog/register"
	"github.com/google/go-eventlog/tcg"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
)

// A vTPM's quote is by the key that the TD's quote names, over the data and the PCRs.
func TestAzure(t *testing.T) {
	m, td := serve(t, Config{Platform: hw.TEEAzureTDX})
	td.LogIn(11)
	before, err := td.Registers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	event := hw.Digest{7}
	if err := td.Extend(t.Context(), event); err != nil {
		t.Fatal(err)
	}
	after, err := td.Registers(t.Context())
	if err != nil || after.PCR != before.PCR.Extend(event) || after.RTMR != [4]hw.Digest{} || m.now().banks.value(11) != after.PCR {
		t.Errorf("%v after %v: %v", after.PCR, before.PCR, err)
	}
	data := hw.ReportData{1, 2}
	answer, err := td.Quote(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	s, err := td.Open(answer)
	if err != nil || !after.PCR.Holds(s.Registers.PCR) || s.Registers.MRTD != after.MRTD {
		t.Fatalf("%+v, %v", s, err)
	}
	if err := judge(s.Quote, m.RootPEM()); err != nil {
		t.Error(err)
	}
	var runtime struct {
		Keys []struct{ N string }
	}
	if err := json.Unmarshal(s.RuntimeData, &runtime, json.MatchCaseInsensitiveNames(true)); err != nil {
		t.Fatal(err)
	}
	modulus, err := base64.RawURLEncoding.DecodeString(runtime.Keys[0].N)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(s.TPMQuote)
	if err := rsa.VerifyPKCS1v15(&rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: 65537}, crypto.SHA256, digest[:], s.TPMSignature[6:]); err != nil {
		t.Error(err)
	}
	over := sha512.Sum384(data[:])
	if !bytes.Contains(s.TPMQuote, over[:]) {
		t.Error("the quote is not over the data")
	}
	for _, bad := range []int{16, 23, 17} {
		td.LogIn(bad)
		if err := td.Extend(t.Context(), event); err == nil {
			t.Errorf("PCR %d is extended", bad)
		}
	}
	if parts := td.Parts(); parts != (hw.Parts{TEE: hw.TEEAzureTDX, Anchor: logs.AnchorPCR, BootLog: hw.BootLogTPM}) {
		t.Errorf("%+v", parts)
	}
}

// Of an SNP guest's vTPM the key is in the JSON that the report is over; the chain is AMD's alike,
// and the PCR holds the log.
func TestAzureSNP(t *testing.T) {
	m, td := serve(t, Config{Platform: hw.TEEAzureSNP})
	if err := td.Extend(t.Context(), hw.Digest{7}); err != nil {
		t.Fatal(err)
	}
	after, err := td.Registers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	answer, err := td.Quote(t.Context(), hw.ReportData{1, 2})
	if err != nil {
		t.Fatal(err)
	}
	s, err := td.Open(answer)
	if err != nil || len(s.Certificates) != 3 || !after.PCR.Holds(s.Registers.PCR) || s.Registers.MRTD != after.MRTD {
		t.Fatalf("%+v, %v", s, err)
	}
	over := sha256.Sum256(s.RuntimeData)
	if !bytes.Equal(s.Quote[0x50:][:64], append(over[:], make([]byte, 32)...)) {
		t.Error("the report is not over the JSON")
	}
	judgeSNP(t, m, s)
	if parts := td.Parts(); parts != (hw.Parts{TEE: hw.TEEAzureSNP, Anchor: logs.AnchorPCR, BootLog: hw.BootLogTPM}) {
		t.Errorf("%+v", parts)
	}
}

// The boot log of a vTPM replays to its PCRs, in both banks, as another reader has it.
func TestTPMLogReplays(t *testing.T) {
	m := bootMachine(t, Config{Platform: hw.TEEAzureTDX})
	log, err := m.BootLog()
	if err != nil {
		t.Fatal(err)
	}
	for name, hash := range map[string]crypto.Hash{"sha256": crypto.SHA256, "sha384": crypto.SHA384} {
		var bank []register.MR
		touched := 0
		for n := range 10 {
			banks := m.now().banks
			value := banks.sha256[n][:]
			if hash == crypto.SHA384 {
				whole := banks.sha384[n]
				value = whole[:]
			}
			if bytes.Count(value, []byte{0}) != len(value) {
				touched++
			}
			bank = append(bank, register.PCR{Index: n, Digest: value, DigestAlg: hash})
		}
		events, err := tcg.ParseAndReplay(log, bank, tcg.ParseOpts{})
		if err != nil || len(events) < 30 || touched != 10 {
			t.Errorf("%s: %d events, %d PCRs: %v", name, len(events), touched, err)
		}
	}
}

// A report is signed by the key of the chain in the table behind it.
func TestSNP(t *testing.T) {
	m, td := serve(t, Config{Platform: hw.TEESNP})
	data := hw.ReportData{3, 63: 9}
	answer, err := td.Quote(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	s, err := td.Open(answer)
	if err != nil || len(s.Quote) != 1184 || len(s.Certificates) != 3 || hw.ReportData(s.Quote[0x50:]) != data {
		t.Fatalf("%+v, %v", s, err)
	}
	judgeSNP(t, m, s)
	if binary.LittleEndian.Uint32(s.Quote) != 3 || s.Registers.MRTD != m.read().MRTD {
		t.Errorf("%x", s.Quote[:32])
	}
	if err := td.Extend(context.Background(), hw.Digest{1}); err == nil {
		t.Error("an SNP guest has no register to extend")
	}
	if log, err := td.BootLog(); err != nil || len(log) != 0 {
		t.Errorf("a boot log of %d bytes: %v", len(log), err)
	}
}

// judgeSNP checks a report's signature and chain up to the machine's root.
func judgeSNP(t *testing.T, m *Machine, s hw.Signed) {
	t.Helper()
	var chain []*x509.Certificate
	for _, der := range s.Certificates {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, c)
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	block, _ := pem.Decode(m.RootPEM())
	if !bytes.Equal(block.Bytes, chain[2].Raw) {
		t.Error("the root is not the chain's")
	}
	roots.AddCert(chain[2])
	between.AddCert(chain[1])
	if _, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		t.Error(err)
	}
	number := func(at int) *big.Int {
		b := bytes.Clone(s.Quote[at:][:72])
		slices.Reverse(b)
		return new(big.Int).SetBytes(b)
	}
	digest := sha512.Sum384(s.Quote[:0x2A0])
	if !ecdsa.Verify(chain[0].PublicKey.(*ecdsa.PublicKey), digest[:], number(0x2A0), number(0x2A0+72)) {
		t.Error("the report is not signed by the VCEK")
	}
}

// A root that is kept belongs to boots of each platform, whichever it was made for.
func TestRootOfEachPlatform(t *testing.T) {
	for _, platform := range []string{hw.TEESNP, hw.TEEAzureTDX, hw.TEEAzureSNP} {
		path := filepath.Join(t.TempDir(), "root.pem")
		first := bootMachine(t, Config{RootFile: path, Platform: platform})
		if second := bootMachine(t, Config{RootFile: path, Platform: platform}); !bytes.Equal(first.RootPEM(), second.RootPEM()) {
			t.Errorf("%s: two boots have two roots", platform)
		}
	}
	for _, bad := range []Config{{Platform: "sgx"}, {Platform: "azure"}, {Platform: hw.TEEAzureSNP, BootLog: syntheticBootLog()}, {Platform: hw.TEESNP, BootLog: syntheticBootLog()}} {
		if _, err := Boot(bad); err == nil {
			t.Errorf("booted as %q", bad.Platform)
		}
	}
}
