package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/replay"
	"github.com/google/go-tdx-guest/testing/testdata"
)

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
