package verify

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify/collateral"
	"github.com/cima-project/cima/hw/verify/collateral/collateraltest"
	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/replay"
)

// A real quote with its collateral, and another verifier beside ours.
var (
	quoteFile     = flag.String("quote", "", "a quote's `FILE`, for BenchmarkAppraiser; a simulated TD's without it")
	collateralDir = flag.String("collateral", "", "`DIR` of the quote's collateral")
	judgedAt      = flag.String("at", "", "`DATE` at which the quote is judged")
	qvlPython     = flag.String("qvl", "", "`PYTHON` that has dcap-qvl 0.7, which BenchmarkAppraiser then has beside it")
)

// quoted is a quote with its collateral, in files.
type quoted struct {
	file, folder string
	raw          []byte
	root         []byte // DER; nil: Intel's
	at           time.Time
}

func (q *quoted) options(b *testing.B) Options {
	opts := Options{Collateral: dcap.Dir(q.folder), At: q.at}
	if q.root != nil {
		roots, err := dcap.ParseRoots(q.root)
		if err != nil {
			b.Fatal(err)
		}
		opts.TrustRoots = roots
	}
	return opts
}

// BenchmarkAppraiser appraises a quote with collateral: each time anew, and by one
// appraiser; beside the limit, three verifications with ECDSA on P-256, and beside
// dcap-qvl, where -qvl names a Python that has it.
func BenchmarkAppraiser(b *testing.B) {
	q := benchmarked(b)
	opts := q.options(b)
	a, err := NewAppraiser(opts)
	if err != nil {
		b.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	sum := sha256.Sum256(q.raw)
	signature, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		b.Fatal(err)
	}
	parts := map[string]func(){
		"anew": func() {
			if r, err := AppraiseQuote(b.Context(), replay.Files{Quote: q.raw}, opts); err != nil || r.Step(StepCollateral).Outcome != Pass {
				b.Fatal(err, r)
			}
		},
		"reused": func() {
			if r, err := a.AppraiseQuote(b.Context(), replay.Files{Quote: q.raw}, Asked{}); err != nil || r.Step(StepCollateral).Outcome != Pass {
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
		other := q.peer(b)
		best := map[string]time.Duration{}
		note := func(name string, took time.Duration) {
			if best[name] == 0 || took < best[name] {
				best[name] = took
			}
		}
		for b.Loop() {
			for name, f := range parts {
				start := time.Now()
				f()
				note(name, time.Since(start))
			}
			if other != nil {
				note("dcap-qvl", other())
			}
		}
		b.ReportMetric(float64(best["reused"])/float64(best["limit"]), "of-limit")
		b.ReportMetric(float64(best["anew"])/float64(best["reused"]), "times-anew")
		b.ReportMetric(float64(best["reused"].Microseconds()), "µs-reused")
		if other != nil {
			b.ReportMetric(float64(best["dcap-qvl"])/float64(best["reused"]), "times-dcap-qvl")
			b.ReportMetric(float64(best["dcap-qvl"].Microseconds()), "µs-dcap-qvl")
		}
	})
}

// peer verifies the same quote with dcap-qvl, once a call. Nil where there is none.
func (q *quoted) peer(b *testing.B) func() time.Duration {
	b.Helper()
	if *qvlPython == "" {
		b.Log("without dcap-qvl: -qvl names no Python that has it")
		return nil
	}
	root := filepath.Join(b.TempDir(), "root.der")
	trusted := dcap.IntelRoot()
	if q.root != nil {
		trusted = q.options(b).TrustRoots[0]
	}
	if err := os.WriteFile(root, trusted.Raw, 0o600); err != nil {
		b.Fatal(err)
	}
	c := exec.Command(*qvlPython, filepath.Join("testdata", "qvl_peer.py"), q.file, q.folder, root, strconv.FormatInt(q.at.Unix(), 10))
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := c.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { in.Close(); c.Wait() })
	lines := bufio.NewScanner(out)
	return func() time.Duration {
		if _, err := io.WriteString(in, "\n"); err != nil || !lines.Scan() {
			b.Fatal("dcap-qvl gave no answer: ", err)
		}
		n, err := strconv.ParseInt(lines.Text(), 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		return time.Duration(n)
	}
}

// benchmarked is the quote that the flags name, or a simulated TD's.
func benchmarked(b *testing.B) *quoted {
	b.Helper()
	if *quoteFile == "" {
		return simulatedQuote(b)
	}
	raw, err := os.ReadFile(*quoteFile)
	if err != nil {
		b.Fatal(err)
	}
	at, err := time.Parse(time.DateOnly, *judgedAt)
	if err != nil {
		b.Fatal(err)
	}
	return &quoted{file: *quoteFile, folder: filepath.Clean(*collateralDir), raw: raw, at: at}
}

func simulatedQuote(b *testing.B) *quoted {
	b.Helper()
	td, err := sim.Boot(sim.Config{})
	if err != nil {
		b.Fatal(err)
	}
	raw, err := td.Quote(b.Context(), hw.ReportData{1})
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	q := &quoted{file: filepath.Join(dir, "quote"), folder: filepath.Join(dir, "collateral"), raw: raw, root: td.RootPEM(), at: time.Now()}
	if err := os.WriteFile(q.file, raw, 0o600); err != nil {
		b.Fatal(err)
	}
	service := collateraltest.Of(b, td, q.at)
	server := httptest.NewServer(service)
	defer server.Close()
	for _, n := range collateral.Needs(service.Kind, "platform") {
		body, chain, err := dcap.PCS{API: server.URL}.Get(b.Context(), dcap.Document(n.Kind), n.Of)
		if err == nil {
			err = collateral.Export(q.folder, n, body, chain)
		}
		if err != nil {
			b.Fatal(fmt.Errorf("%s: %w", n.Kind, err))
		}
	}
	return q
}
