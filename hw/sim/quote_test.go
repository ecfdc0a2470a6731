package sim

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-tdx-guest/abi"
	"github.com/google/go-tdx-guest/pcs"
	pb "github.com/google/go-tdx-guest/proto/tdx"
	"github.com/google/go-tdx-guest/verify"

	"github.com/cima-project/cima/hw"
)

func bootMachine(t testing.TB, config Config) *Machine {
	t.Helper()
	m, err := Boot(config)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func quoteOf(t testing.TB, m *Machine, data hw.ReportData) []byte {
	t.Helper()
	quote, err := m.Quote(context.Background(), data)
	if err != nil {
		t.Fatal(err)
	}
	return quote
}

// judge is go-tdx-guest's verdict under one root; a panic counts as a refusal.
func judge(quote, root []byte) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	options := verify.DefaultOptions()
	options.TrustedRoots = x509.NewCertPool()
	options.TrustedRoots.AppendCertsFromPEM(root)
	return verify.RawTdxQuote(quote, options)
}

func TestQuoteVerifiesUnderItsRootOnly(t *testing.T) {
	for _, version := range []int{4, 5} {
		t.Run(fmt.Sprint("version ", version), func(t *testing.T) {
			m, other := bootMachine(t, Config{QuoteVersion: version}), bootMachine(t, Config{})
			quote := quoteOf(t, m, hw.ReportData{1, 2, 3})
			if err := judge(quote, m.RootPEM()); err != nil {
				t.Errorf("under its own root: %v", err)
			}
			if err := judge(quote, nil); err == nil {
				t.Error("verified under no root")
			}
			if err := judge(quote, other.RootPEM()); err == nil {
				t.Error("verified under another simulated TD's root")
			}
			intel := verify.DefaultOptions() // nil TrustedRoots: Intel's
			if err := verify.RawTdxQuote(quote, intel); err == nil {
				t.Error("verified under Intel's root")
			}
		})
	}
}

func TestQuoteRoundTrip(t *testing.T) {
	for _, version := range []int{4, 5} {
		m := bootMachine(t, Config{QuoteVersion: version})
		quote := quoteOf(t, m, hw.ReportData{9})
		parsed, err := abi.QuoteToProto(quote)
		if err != nil {
			t.Fatal(err)
		}
		again, err := abi.QuoteToAbiBytes(parsed)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again, quote) {
			t.Errorf("version %d: go-tdx-guest reads another quote than was written", version)
		}
	}
}

func TestQuoteHoldsRegistersAndReportData(t *testing.T) {
	m := bootMachine(t, Config{Debug: true})
	if err := m.Extend(context.Background(), hw.Digest{7}); err != nil {
		t.Fatal(err)
	}
	want := m.read()
	data := hw.ReportData{0: 1, 63: 64}
	parsed, err := abi.QuoteToProto(quoteOf(t, m, data))
	if err != nil {
		t.Fatal(err)
	}
	body := parsed.(*pb.QuoteV4).GetTdQuoteBody()
	if !bytes.Equal(body.GetMrTd(), want.MRTD[:]) || !bytes.Equal(body.GetReportData(), data[:]) {
		t.Error("MRTD or report data are not what was asked for")
	}
	for i, rtmr := range body.GetRtmrs() {
		if !bytes.Equal(rtmr, want.RTMR[i][:]) {
			t.Errorf("RTMR%d of the quote is %x, not %s", i, rtmr, want.RTMR[i])
		}
	}
	if body.GetTdAttributes()[0]&1 == 0 {
		t.Error("the debug bit was asked for and is not set")
	}
}

// A signature, a digest or a length covers every byte of a quote. In the PEM
// only white space between the blocks may be free.
func TestEveryFlippedByteFails(t *testing.T) {
	for _, version := range []int{4, 5} {
		m := bootMachine(t, Config{QuoteVersion: version})
		quote := quoteOf(t, m, hw.ReportData{1})
		root := m.RootPEM()
		for i := range quote {
			flip := byte(1 << (i % 8))
			quote[i] ^= flip
			if err := judge(quote, root); err == nil && canonicalChain(quote) {
				t.Errorf("version %d: byte %d ^ %#x of %d verifies", version, i, flip, len(quote))
			}
			quote[i] ^= flip
		}
		if err := judge(quote, root); err != nil {
			t.Fatal(err)
		}
	}
}

// canonicalChain reports whether the chain is exactly the PEM of its
// certificates: go-tdx-guest accepts other spellings, hw/verify refuses them.
func canonicalChain(quote []byte) bool {
	start := bytes.Index(quote, []byte("-----BEGIN"))
	rest := bytes.TrimSuffix(quote[start:], []byte{0})
	var again []byte
	for block, tail := pem.Decode(rest); block != nil; block, tail = pem.Decode(tail) {
		again = append(again, pem.EncodeToMemory(block)...)
	}
	return bytes.Equal(again, bytes.TrimSuffix(quote[start:], []byte{0}))
}

func TestCertificatesSayWhatTheyAre(t *testing.T) {
	m := bootMachine(t, Config{})
	rest, n := m.keys.(tdx).keys.chainPEM, 0
	for block, tail := pem.Decode(rest); block != nil; block, tail = pem.Decode(tail) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		n++
		for _, name := range []string{cert.Subject.String(), cert.Issuer.String()} {
			if !strings.Contains(name, "CIMA simulated TD") || strings.Count(name, "NOT HARDWARE") != 2 {
				t.Errorf("%q could be mistaken for hardware", name)
			}
		}
	}
	if n != 3 {
		t.Fatalf("chain of %d certificates", n)
	}
	leaf, _ := pem.Decode(m.keys.(tdx).keys.chainPEM)
	cert, _ := x509.ParseCertificate(leaf.Bytes)
	ext, err := pcs.PckCertificateExtensions(cert)
	if err != nil {
		t.Fatal(err)
	}
	if ext.FMSPC != "43494d410000" || ext.TCB.PCESvn != pceSVN || !bytes.Equal(ext.TCB.CPUSvn, cpuSVN[:]) || !bytes.Equal(ext.TCB.CPUSvnComponents, cpuSVN[:]) {
		t.Errorf("extensions of the PCK certificate: %+v", ext)
	}
}

func TestQuoteIsAsLongAsItSays(t *testing.T) {
	quote := quoteOf(t, bootMachine(t, Config{}), hw.ReportData{})
	if n := binary.LittleEndian.Uint32(quote[632:]); int(n) != len(quote)-636 {
		t.Errorf("announces %d bytes, has %d", n, len(quote)-636)
	}
}

func BenchmarkSign(b *testing.B) {
	m := bootMachine(b, Config{})
	for b.Loop() {
		if _, err := m.Sign(m.read(), hw.ReportData{}); err != nil {
			b.Fatal(err)
		}
	}
}
