package verify

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/logs"
)

var exhaustive = flag.Bool("exhaustive", false, "flip every bit of a bundle, not some thousands")

// TestFlippedBits: one flipped bit anywhere in a trusted bundle makes it
// untrusted, and a step gives the reason. By default bits are chosen at random.
func TestFlippedBits(t *testing.T) {
	w := twoContainers(t)
	c := w.claims(idOne)
	c.UserData = []byte("key of the channel")
	w.launch("3333", "three", "/bin/three") // after the claims
	good := encode(t, w.seal(c, w.key))
	opts := w.options()
	opts.Policy = policyOf(t, appraiseT(t, good, opts))
	expect(t, appraiseT(t, good, opts), Trusted)

	by := map[string]int{}
	try := func(bit int) {
		bundle := bytes.Clone(good)
		bundle[bit/8] ^= 1 << (bit % 8)
		r := appraiseT(t, bundle, opts)
		failed := r.Failed()
		if r.ExitCode == 0 || len(failed) == 0 || r.Reason == "" {
			t.Errorf("bit %d of byte %d (%q…) is free: %s, %s", bit%8, bit/8, good[max(0, bit/8-20):bit/8+1], r.Verdict, r.Reason)
			return
		}
		by[failed[0].Name]++
	}
	tried := 0
	if *exhaustive {
		for ; tried < len(good)*8; tried++ {
			try(tried)
		}
	} else {
		const seed = 1
		random := rand.New(rand.NewPCG(seed, 0))
		t.Logf("seed %d", seed)
		for ; tried < 4000; tried++ {
			try(random.IntN(len(good) * 8))
		}
	}
	t.Logf("%d of %d bits flipped; caught first by %v", tried, len(good)*8, by)
}

// TestFlippedBitsOfEveryField flips bits inside the base64 of the bundle, so
// that the JSON around it stays whole: half of the flips above end in the
// format step.
func TestFlippedBitsOfEveryField(t *testing.T) {
	w := twoContainers(t)
	opts := w.options()
	good := w.evidence(idOne)
	opts.Policy = policyOf(t, appraiseT(t, encode(t, good), opts))
	fields := map[string]*[]byte{
		"quote": &good.Quote, "agent_signature": &good.AgentSignature, "boot_log": &good.BootLog,
		"claims": (*[]byte)(&good.Claims),
	}
	for i := range good.RuntimeLog {
		r := &good.RuntimeLog[i]
		if r.Event != nil {
			fields[fmt.Sprintf("event %d", i)] = &r.Event
		} else {
			fields[fmt.Sprintf("digests %d", i)] = &r.Digests
		}
	}
	const seed = 2
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		field := fields[name]
		by, n := map[string]int{}, len(*field)*8
		for range min(n, 300) {
			bit := random.IntN(n)
			(*field)[bit/8] ^= 1 << (bit % 8)
			if r := appraiseT(t, rawEncode(t, good), opts); r.ExitCode == 0 || len(r.Failed()) == 0 {
				t.Errorf("%s: bit %d of byte %d is free", name, bit%8, bit/8)
			} else {
				by[r.Failed()[0].Name]++
			}
			(*field)[bit/8] ^= 1 << (bit % 8)
		}
		t.Logf("%s: caught first by %v", name, by)
	}
}

func FuzzAppraise(f *testing.F) {
	w := twoContainers(f)
	opts := w.options()
	for _, id := range []string{idOne, ""} {
		f.Add(encode(f, w.evidence(id)))
	}
	v5 := newWorld(f, sim.Config{QuoteVersion: 5})
	v5.launch(idOne, "one", "/bin/one")
	v5.public(logs.OpPower, `{"classes":["privileged"]}`)
	e := v5.evidence(idOne)
	e.OSLogs = osLog(imaLine)
	f.Add(encode(f, e))
	f.Add([]byte(`{"profile":"","tee":"tdx","quote":""}`))
	opts.Policy = policyOf(f, appraiseT(f, encode(f, w.evidence(idOne)), opts))
	f.Fuzz(func(t *testing.T, bundle []byte) {
		r := appraiseT(t, bundle, opts)
		if len(r.Steps) != len(claimSteps) || r.ExitCode != r.Verdict.ExitCode() || r.Verdict != Trusted && r.Reason == "" {
			t.Errorf("odd result %+v", r)
		}
		if err := r.WriteTable(&bytes.Buffer{}); err != nil {
			t.Error(err)
		}
		if r.Claims != nil {
			InitPolicy([]*Result{r}, nil)
		}
	})
}
