package dcap

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/logs/boot"
	"github.com/google/go-tdx-guest/testing/testdata"
)

// whenMade is a time at which the certificates of the quotes below were good.
var whenMade = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)

// cut removes the buffer after a quote.
func cut(t testing.TB, buffer []byte) []byte {
	t.Helper()
	n, err := QuoteLength(buffer)
	if err != nil {
		t.Fatal(err)
	}
	return buffer[:n]
}

// TestQuotesOfRealTDs: the quotes in go-tdx-guest verify to Intel's root.
func TestQuotesOfRealTDs(t *testing.T) {
	for name, raw := range map[string][]byte{"v4": testdata.RawQuote, "v5": testdata.RawQuoteV5} {
		q, err := ParseQuote(cut(t, raw))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := q.Verify([]*x509.Certificate{IntelRoot()}, whenMade); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := q.Verify([]*x509.Certificate{IntelRoot()}, whenMade.AddDate(60, 0, 0)); err == nil {
			t.Errorf("%s: verified after its certificates ended", name)
		}
		if q.Registers.MRTD == (hw.Digest{}) || q.Registers.RTMR[0] == (hw.Digest{}) {
			t.Errorf("%s: no registers were read: %+v", name, q.Registers)
		}
	}
	// a buffer is not a quote: this one has text after it
	if _, err := ParseQuote(testdata.RawQuote); err == nil || !strings.Contains(err.Error(), "39 bytes stand behind") {
		t.Errorf("a quote with a tail: %v", err)
	}
}

// TestSharedQuotes checks quotes of real TDs, if they are there: they are not
// part of the repository.
func TestSharedQuotes(t *testing.T) {
	const shared = "/work/shared/testdata"
	if _, err := os.Stat(shared); err != nil {
		t.Skipf("left out: %v (captured on real TDs, not part of the repo)", err)
	}
	for _, c := range []struct {
		name    string
		trusted bool
		debug   byte
		bootLog string // replays to this quote's registers
		rtmrs   int    // the number of registers that it replays to
	}{
		{"gcp-cos113/quote.bin", true, 0, "gcp-cos113/ccel.bin", 4},
		{"evidence-api/quote.bin", false, 0, "evidence-api/ccel.bin", 2}, // IMA extended RTMR2
		{"quotes/v4.bin", true, 1, "", 0},
		{"quotes/v5.bin", true, 0, "", 0},
	} {
		raw, err := os.ReadFile(filepath.Join(shared, c.name))
		if err != nil {
			t.Fatal(err)
		}
		q, err := ParseQuote(cut(t, raw))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var untrusted *UntrustedRootError
		if err := q.Verify([]*x509.Certificate{IntelRoot()}, whenMade); c.trusted && err != nil || !c.trusted && !errors.As(err, &untrusted) {
			t.Errorf("%s: %v", c.name, err)
		}
		if !c.trusted { // signatures are valid all the same, up to its own root
			if err := q.Verify(q.Chain[2:], whenMade); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		}
		if q.Attributes[0] != c.debug {
			t.Errorf("%s: debug bits %#x, not %#x", c.name, q.Attributes[0], c.debug)
		}
		if c.bootLog == "" {
			continue
		}
		log, err := os.ReadFile(filepath.Join(shared, c.bootLog))
		if err != nil {
			t.Fatal(err)
		}
		registers, err := boot.Replay(log)
		if err != nil {
			t.Fatal(err)
		}
		for i := range c.rtmrs {
			if registers[i] != q.Registers.RTMR[i] {
				t.Errorf("%s: RTMR%d", c.name, i)
			}
		}
	}
}

// TestQuoteHasNoFreeBit flips each bit of a quote.
func TestQuoteHasNoFreeBit(t *testing.T) {
	td := simulated(t, sim.Config{})
	roots, err := ParseRoots(td.RootPEM())
	if err != nil {
		t.Fatal(err)
	}
	good, err := td.Quote(context.Background(), hw.ReportData{1})
	if err != nil {
		t.Fatal(err)
	}
	at, step := 0, 7
	for ; at < len(good)*8; at += step { // 7 and 8 have no common factor: all bits of bytes are flipped
		raw := bytes.Clone(good)
		raw[at/8] ^= 1 << (at % 8)
		q, err := ParseQuote(raw)
		if err == nil {
			err = q.Verify(roots, time.Time{})
		}
		if err == nil {
			t.Errorf("bit %d of byte %d is free", at%8, at/8)
		}
	}
	t.Logf("%d of %d bits flipped", (len(good)*8+step-1)/step, len(good)*8)
}

// TestQuoteOfAnyLength cuts and extends quotes: the library panics on some of
// these.
func TestQuoteOfAnyLength(t *testing.T) {
	for _, good := range [][]byte{cut(t, testdata.RawQuote), cut(t, testdata.RawQuoteV5)} {
		for n := 0; n < len(good); n++ {
			if _, err := ParseQuote(good[:n]); err == nil {
				t.Fatalf("a quote of %d bytes was parsed", n)
			}
		}
		for at := 0; at+4 <= len(good); at++ { // lengths that are wrong
			raw := bytes.Clone(good)
			copy(raw[at:], []byte{0xff, 0xff, 0xff, 0x7f})
			if q, err := ParseQuote(raw); err == nil {
				if q.Verify([]*x509.Certificate{IntelRoot()}, whenMade) == nil {
					t.Fatalf("bytes at %d are free", at)
				}
			}
		}
	}
}

func simulated(t testing.TB, config sim.Config) *sim.Machine {
	t.Helper()
	td, err := sim.Boot(config)
	if err != nil {
		t.Fatal(err)
	}
	return td
}

// FuzzQuote: the library panics on malformed quotes; ParseQuote doesn't.
func FuzzQuote(f *testing.F) {
	for _, version := range []int{4, 5} {
		q, err := simulated(f, sim.Config{QuoteVersion: version}).Quote(f.Context(), hw.ReportData{})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(q)
	}
	f.Add([]byte{4, 0})
	f.Fuzz(func(t *testing.T, raw []byte) {
		if q, err := ParseQuote(raw); err == nil {
			q.Verify(q.Chain[2:], whenMade)
		}
	})
}
