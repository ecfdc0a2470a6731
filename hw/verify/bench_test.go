package verify

import (
	"crypto/sha512"
	"fmt"
	"testing"
	"time"

	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/evidence"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/canonical"
	"github.com/cima-project/cima/rpc"
)

// BenchmarkThousandEvents appraises a bundle with 1,000 events, without the
// quote's signatures, next to hashing the same bytes, which every appraisal
// must do.
func BenchmarkThousandEvents(b *testing.B) {
	w := newWorld(b, sim.Config{})
	w.launch(idOne, "one", "/bin/one")
	for i := len(w.log); i < 1000; i++ {
		w.own(idOne, logs.OpExtend, fmt.Sprintf(`{"domain":"app","operation":"load","content":"model %d"}`, i))
	}
	e := w.evidence(idOne)
	bundle, opts := encode(b, e), w.options()
	appraised := func(b *testing.B) {
		ev, err := evidence.Parse(bundle)
		if err != nil {
			b.Fatal(err)
		}
		r := begin(claimSteps, opts)
		c := &conclusion{Result: r, ev: ev, opts: opts}
		c.keys, c.instance = r.judgeClaims(ev, opts)
		r.seen.Booted = booted(ev)
		if err := r.judgeValues(ev, c, opts); err != nil {
			b.Fatal(err)
		}
		if failed := r.Failed(); len(failed) > 0 {
			b.Fatal(failed)
		}
	}
	b.Run("appraise", func(b *testing.B) {
		b.SetBytes(int64(len(bundle)))
		b.ReportAllocs()
		for b.Loop() {
			appraised(b)
		}
	})
	// In turn, the best of each: a busy machine slows down all. The chain is read and the
	// agent's signature checked for the signatures' sake.
	b.Run("ratio", func(b *testing.B) {
		best := [3]time.Duration{1 << 62, 1 << 62, 1 << 62}
		for b.Loop() {
			for i, f := range []func(){func() { appraised(b) }, func() { hashed(w, e) }, func() { signatures(b, w, e) }} {
				start := time.Now()
				f()
				best[i] = min(best[i], time.Since(start))
			}
		}
		b.ReportMetric(float64(best[0])/float64(best[1]), "×hash")
		b.ReportMetric(float64(best[0]-best[2])/float64(best[1]), "×hash-beside-signatures")
	})
	b.Run("signature", func(b *testing.B) {
		ev, err := evidence.Parse(bundle)
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if got, _ := quoteSignature(ev.Quote, opts); got.Outcome != Pass {
				b.Fatal(got.Detail)
			}
		}
	})
	b.Run("hash", func(b *testing.B) {
		for b.Loop() {
			hashed(w, e)
		}
	})
}

// signatures does what appraising the log doesn't need.
func signatures(b *testing.B, w *world, e *rpc.Evidence) {
	q, err := dcap.ParseQuote(e.Quote)
	if err != nil || !rpc.VerifyReportData(publicOf(w.key), q.ReportData, e.AgentSignature) {
		b.Fatal(err)
	}
}

// hashed does the minimum: it hashes each byte under its digests, and replays.
func hashed(w *world, e *rpc.Evidence) (sum byte) {
	for range 2 { // claims.boot_log, and the events of the boot log
		d := sha512.Sum384(e.BootLog)
		sum += d[0]
	}
	var register, public, container canonical.Digest
	for _, event := range w.log {
		digest := event.Digest()
		register = register.Extend(digest)
		measured, _ := event.MeasuredDigest()
		if event.Container == "" {
			public = public.Extend(measured)
		} else {
			container = container.Extend(measured)
		}
	}
	return sum + register[0] + public[0] + container[0]
}
