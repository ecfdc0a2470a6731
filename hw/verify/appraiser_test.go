package verify

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/replay"
	"github.com/google/go-tdx-guest/testing/testdata"
)

// A real quote with its collateral, for the benchmark beside other verifiers.
var (
	quoteFile     = flag.String("quote", "", "a quote's `FILE`, for BenchmarkAppraiser; a simulated TD's without it")
	collateralDir = flag.String("collateral", "", "`DIR` of the quote's collateral")
	judgedAt      = flag.String("at", "", "`DATE` at which the quote is judged")
)

// BenchmarkAppraiser appraises a quote with collateral: each time anew, and by one
// appraiser; beside the limit, three verifications with ECDSA on P-256.
func BenchmarkAppraiser(b *testing.B) {
	raw, opts := benchmarked(b)
	a, err := NewAppraiser(opts)
	if err != nil {
		b.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	sum := sha256.Sum256(raw)
	signature, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		b.Fatal(err)
	}
	parts := map[string]func(){
		"anew": func() {
			if r, err := AppraiseQuote(b.Context(), replay.Files{Quote: raw}, opts); err != nil || r.Step(StepCollateral).Outcome != Pass {
				b.Fatal(err, r)
			}
		},
		"reused": func() {
			if r, err := a.AppraiseQuote(b.Context(), replay.Files{Quote: raw}, Asked{}); err != nil || r.Step(StepCollateral).Outcome != Pass {
				b.Fatal(err, r)
			}
		},
		"limit": func() {
			for range 3 {
				if !ecdsa.VerifyASN1(&key.PublicKey, sum[:], signature) {
					b.Fatal("a signature does not hold")
				}
			}
		},
	}
	for _, name := range []string{"anew", "reused", "limit"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				parts[name]()
			}
		})
	}
	// In turn, the best of each: a busy machine slows down all.
	b.Run("ratio", func(b *testing.B) {
		best := map[string]time.Duration{}
		for b.Loop() {
			for name, f := range parts {
				start := time.Now()
				f()
				if took := time.Since(start); best[name] == 0 || took < best[name] {
					best[name] = took
				}
			}
		}
		b.ReportMetric(float64(best["reused"])/float64(best["limit"]), "of-limit")
		b.ReportMetric(float64(best["anew"])/float64(best["reused"]), "times-anew")
		b.ReportMetric(float64(best["reused"].Microseconds()), "µs-reused")
	})
}

func benchmarked(b *testing.B) ([]byte, Options) {
	if *quoteFile == "" {
		return testdata.RawQuote, Options{Collateral: &counting{Source: recorded(b)}, At: recordedAt}
	}
	raw, err := os.ReadFile(*quoteFile)
	if err != nil {
		b.Fatal(err)
	}
	at, err := time.Parse(time.DateOnly, *judgedAt)
	if err != nil {
		b.Fatal(err)
	}
	return raw, Options{Collateral: dcap.Dir(filepath.Clean(*collateralDir)), At: at}
}

func asJSON(t *testing.T, r *Result) []byte {
	t.Helper()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestReusedIsFresh: what an appraiser says after others is what a new one says: of good
// evidence, of flipped bits, of dates at which the collateral, and a certificate, is good
// no more, and good again.
func TestReusedIsFresh(t *testing.T) {
	opts := Options{Collateral: &counting{Source: recorded(t)}}
	now := recordedAt
	times := []time.Time{now, now.AddDate(0, 2, 0), now.AddDate(0, -2, 0), now.AddDate(100, 0, 0), now.AddDate(-100, 0, 0), now}
	a, err := NewAppraiser(opts)
	if err != nil {
		t.Fatal(err)
	}
	real := cut(t, testdata.RawQuote)
	quotes := [][]byte{real}
	for at := 10; at < len(real); at += 97 {
		flipped := bytes.Clone(real)
		flipped[at] ^= 1
		quotes = append(quotes, flipped)
	}
	verdicts := map[Verdict]int{}
	for i, raw := range quotes {
		for _, at := range times {
			if i > 0 && i%7 != 0 && at != now {
				continue
			}
			a.opts.At, opts.At = at, at
			reused, err := a.AppraiseQuote(t.Context(), replay.Files{Quote: raw}, Asked{})
			if err != nil {
				t.Fatal(err)
			}
			fresh, err := AppraiseQuote(t.Context(), replay.Files{Quote: raw}, opts)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := asJSON(t, reused), asJSON(t, fresh); !bytes.Equal(got, want) {
				t.Errorf("quote %d at %s: reused\n%s\nfresh\n%s", i, at, got, want)
			}
			verdicts[reused.Verdict]++
		}
	}
	if verdicts[NotAuthentic] == 0 || verdicts[Malformed] == 0 || len(verdicts) < 3 {
		t.Errorf("too few kinds of verdicts were compared: %v", verdicts)
	}
}

// TestCollateralAskedOnce: the source is asked once for many quotes, and again when the
// collateral has expired.
func TestCollateralAskedOnce(t *testing.T) {
	counted := &counting{Source: recorded(t)}
	opts := Options{Collateral: counted, At: recordedAt}
	a, err := NewAppraiser(opts)
	if err != nil {
		t.Fatal(err)
	}
	judge := func(want int) {
		t.Helper()
		for range 3 {
			if _, err := a.AppraiseQuote(t.Context(), replay.Files{Quote: testdata.RawQuote}, Asked{}); err != nil {
				t.Fatal(err)
			}
		}
		if counted.asked != want {
			t.Errorf("the source was asked %d times, want %d", counted.asked, want)
		}
	}
	judge(4)
	a.opts.At = recordedAt.AddDate(0, 2, 0) // expired: each appraisal tries again
	judge(4 + 3*4)
	a.opts.At = recordedAt
	judge(4 + 3*4 + 4)
}

// recordedAt is a time at which the recorded collateral is good.
var recordedAt = time.Date(2023, 7, 1, 1, 0, 0, 0, time.UTC)

// counting counts what is asked of a source, and asks for each document once: the network
// is no part of what is compared.
type counting struct {
	dcap.Source
	asked int
	had   map[string][2][]byte
}

// Get counts, and gives the document.
func (c *counting) Get(ctx context.Context, doc dcap.Document, of string) (body, chain []byte, err error) {
	c.asked++
	name := dcap.FileName(doc, of)
	if had, ok := c.had[name]; ok {
		return had[0], had[1], nil
	}
	if body, chain, err = c.Source.Get(ctx, doc, of); err == nil {
		if c.had == nil {
			c.had = make(map[string][2][]byte)
		}
		c.had[name] = [2][]byte{body, chain}
	}
	return body, chain, err
}
