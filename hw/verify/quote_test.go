package verify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tdx-guest/testing/testdata"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/logs/boot"
)

// whenMade is a time at which the certificates of the quotes below were good.
var whenMade = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)

// cut takes a quote out of its buffer.
func cut(t testing.TB, buffer []byte) []byte {
	t.Helper()
	n, err := QuoteLength(buffer)
	if err != nil {
		t.Fatal(err)
	}
	return buffer[:n]
}

func TestIntelRoot(t *testing.T) {
	const published = "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3" // SHA-256 of IntelSGXRootCA.der
	sum := sha256.Sum256(IntelRoot().Raw)
	if got := hex.EncodeToString(sum[:]); got != published {
		t.Errorf("the built-in root has SHA-256 %s, not %s", got, published)
	}
}

// TestQuotesOfRealTDs: those that go-tdx-guest carries verify to Intel's root.
func TestQuotesOfRealTDs(t *testing.T) {
	for name, raw := range map[string][]byte{"v4": testdata.RawQuote, "v5": testdata.RawQuoteV5} {
		q, err := ParseQuote(cut(t, raw))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := q.Verify(intel(), whenMade); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := q.Verify(intel(), whenMade.AddDate(60, 0, 0)); err == nil {
			t.Errorf("%s: verified after its certificates ended", name)
		}
		if q.Registers.MRTD == (hw.Digest{}) || q.Registers.RTMR[0] == (hw.Digest{}) {
			t.Errorf("%s: no registers were read: %+v", name, q.Registers)
		}
	}
	// A buffer is not a quote: this one has text behind it.
	if _, err := ParseQuote(testdata.RawQuote); err == nil || !strings.Contains(err.Error(), "39 bytes stand behind") {
		t.Errorf("a quote with a tail: %v", err)
	}
}

// TestSharedQuotes tries the quotes that lie beside the repo, where they do.
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
		rtmrs   int    // so many of them
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
		var untrusted *untrustedRootError
		if err := q.Verify(intel(), whenMade); c.trusted && err != nil || !c.trusted && !errors.As(err, &untrusted) {
			t.Errorf("%s: %v", c.name, err)
		}
		if !c.trusted { // signatures hold all the same, up to its own root
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

// TestSharedIMALog replays the log of a kernel that extends RTMR2 for IMA.
func TestSharedIMALog(t *testing.T) {
	const shared = "/work/shared/testdata/evidence-api"
	entries, err := os.ReadFile(filepath.Join(shared, "ima.ascii"))
	if err != nil {
		t.Skipf("left out: %v (captured on a real TD, not part of the repo)", err)
	}
	ccel, err := os.ReadFile(filepath.Join(shared, "ccel.bin"))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(shared, "quote.bin"))
	if err != nil {
		t.Fatal(err)
	}
	q, err := ParseQuote(cut(t, raw))
	if err != nil {
		t.Fatal(err)
	}
	registers, err := boot.Replay(ccel)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := replayOSLogs(osLog(entries), &registers); err != nil {
		t.Fatal(err)
	}
	if registers[2] != q.Registers.RTMR[2] {
		t.Error("RTMR2 is not what boot log and IMA log replay to")
	}
}

// TestQuoteHasNoFreeBit flips each bit of a quote.
func TestQuoteHasNoFreeBit(t *testing.T) {
	w := newWorld(t, sim.Config{})
	roots := w.roots()
	good, err := w.td.Quote(context.Background(), hw.ReportData{1})
	if err != nil {
		t.Fatal(err)
	}
	at, step := 0, 7
	for ; at < len(good)*8; at += step { // 7 and 8 share no factor: all bits of bytes are met
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

// TestQuoteOfAnyLength cuts and fills: the library panics on some of these.
func TestQuoteOfAnyLength(t *testing.T) {
	for _, good := range [][]byte{cut(t, testdata.RawQuote), cut(t, testdata.RawQuoteV5)} {
		for n := 0; n < len(good); n++ {
			if _, err := ParseQuote(good[:n]); err == nil {
				t.Fatalf("a quote of %d bytes was parsed", n)
			}
		}
		for at := 0; at+4 <= len(good); at++ { // lengths that lie
			raw := bytes.Clone(good)
			copy(raw[at:], []byte{0xff, 0xff, 0xff, 0x7f})
			if q, err := ParseQuote(raw); err == nil {
				if q.Verify(intel(), whenMade) == nil {
					t.Fatalf("bytes at %d are free", at)
				}
			}
		}
	}
}

// TestLooseChains: the same certificates in another text.
func TestLooseChains(t *testing.T) {
	w := newWorld(t, sim.Config{})
	one := w.td.RootPEM()
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

// TestNothingIsPrinted: the quote library's logger writes to the stdout that
// it finds at start, so this runs in a process of its own.
func TestNothingIsPrinted(t *testing.T) {
	const child = "CIMA_TEST_APPRAISE_AND_EXIT"
	if os.Getenv(child) != "" {
		w := twoContainers(t)
		e := w.evidence(idOne)
		appraiseT(t, encode(t, e), w.options())
		appraiseT(t, encode(t, e), Options{})
		e.Quote = cut(t, testdata.RawQuote)
		appraiseT(t, encode(t, e), Options{})
		os.Exit(0)
	}
	self := exec.Command(os.Args[0], "-test.run=^TestNothingIsPrinted$")
	self.Env = append(os.Environ(), child+"=1")
	if printed, err := self.CombinedOutput(); err != nil || len(printed) > 0 {
		t.Errorf("printed %q, %v", printed, err)
	}
}
