package verify

import (
	"crypto/sha512"
	"fmt"
	"testing"
	"time"

	"github.com/cima-project/cima/hw/sim"
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
		ev, err := parse(bundle)
		if err != nil {
			b.Fatal(err)
		}
		r := begin(claimSteps, opts)
		c := &conclusion{Result: r, ev: ev, opts: opts}
		c.keys, c.instance = r.judgeClaims(ev, opts)
		r.seen.Booted = ev.booted()
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
	// In turn, the best of each: a busy machine slows down both.
	b.Run("ratio", func(b *testing.B) {
		best := [2]time.Duration{1 << 62, 1 << 62}
		for b.Loop() {
			for i, f := range []func(){func() { appraised(b) }, func() { hashed(w, e) }} {
				start := time.Now()
				f()
				best[i] = min(best[i], time.Since(start))
			}
		}
		b.ReportMetric(float64(best[0])/float64(best[1]), "×hash")
	})
	b.Run("signature", func(b *testing.B) {
		ev, err := parse(bundle)
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if got, _ := quoteSignature(ev.quote, opts); got.Outcome != Pass {
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
