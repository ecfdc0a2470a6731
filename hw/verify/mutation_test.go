package verify

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/gowebpki/jcs"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

var exhaustive = flag.Bool("exhaustive", false, "flip every bit of a bundle, not some thousands")

// TestFlippedBits: one flipped bit anywhere in a bundle that is trusted makes
// it not so, and a step says why. By default bits are taken at random.
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
		seed := rand.Uint64()
		random := rand.New(rand.NewPCG(seed, 0))
		t.Logf("seed %d", seed)
		for ; tried < 4000; tried++ {
			try(random.IntN(len(good) * 8))
		}
	}
	t.Logf("%d of %d bits flipped; caught first by %v", tried, len(good)*8, by)
}

// TestFlippedBitsOfEveryField flips bits inside what the bundle's base64
// carries, so that the JSON round it stays whole: half of the flips above end
// in the format step.
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
	for name, field := range fields {
		by, n := map[string]int{}, len(*field)*8
		for range min(n, 300) {
			bit := rand.IntN(n)
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

// TestIMALog: a kernel that extends RTMR2 for IMA.
func TestIMALog(t *testing.T) {
	w, log := imaWorld(t)
	e := w.evidence(idOne)
	expect(t, appraiseT(t, encode(t, e), w.options()), NotAuthentic, StepBootLog) // without the log
	e.OSLogs = osLog(log)
	r := appraiseT(t, encode(t, e), w.options())
	expect(t, r, NotTrusted)
	if got := r.Step(StepBootLog).Detail; got != "32 boot events and 2 IMA entries replay to RTMR0–2" {
		t.Errorf("detail %q", got)
	}
	for bit := 0; bit < len(log)*8; bit += 3 { // 3 and 8 share no factor: all bits of bytes are met
		changed := bytes.Clone(log)
		changed[bit/8] ^= 1 << (bit % 8)
		e.OSLogs = osLog(changed)
		if r := appraiseT(t, encode(t, e), w.options()); r.Verdict != NotAuthentic || r.Step(StepBootLog).Outcome != Fail {
			t.Errorf("bit %d of byte %d is free: %s", bit%8, bit/8, changed)
		}
	}
	more, _ := imaEntry(10, "/usr/bin/false")
	for name, changed := range map[string][]byte{
		"entry added":       append(bytes.Clone(log), more...),
		"another register":  append(bytes.Clone(log), bytes.Replace(more, []byte("10"), []byte("11"), 1)...),
		"unextended":        append(bytes.Clone(log), bytes.Replace(more, []byte("10"), []byte(" 7"), 1)...),
		"blank line":        append(bytes.Clone(log), '\n'),
		"no newline at end": log[:len(log)-1],
		"cut":               log[:len(log)/2],
		"empty":             {},
	} {
		e.OSLogs = osLog(changed)
		if r := appraiseT(t, rawEncode(t, e), w.options()); r.ExitCode == 4 {
			t.Errorf("%s: taken", name)
		}
	}
	// Runs of entries and of digests, whatever is shown, give the same.
	line, digest := imaEntry(10, "boot_aggregate")
	first := rpc.OSLog{Register: "rtmr2", Format: rpc.FormatIMADigests, Entries: digest[:]}
	second := osLog(log[len(line):])[0]
	e.OSLogs = []rpc.OSLog{first, second}
	r = appraiseT(t, encode(t, e), w.options())
	expect(t, r, NotTrusted)
	if got := r.Step(StepBootLog).Detail; got != "32 boot events and 2 IMA entries (of 1 only the digest is shown) replay to RTMR0–2" {
		t.Errorf("detail %q", got)
	}
	cut := first
	cut.Entries = cut.Entries[:47]
	for name, list := range map[string][]rpc.OSLog{
		"order": {second, first}, "one missing": {second}, "twice": {first, second, first},
		"cut": {cut, second}, "as lines": {{Register: "rtmr2", Format: rpc.FormatIMA, Entries: digest[:]}, second},
		"parted":           {osLog(log[:len(line)])[0], second},
		"empty run":        {first, {Register: "rtmr2", Format: rpc.FormatIMADigests}, second},
		"another register": {{Register: "rtmr1", Format: rpc.FormatIMADigests, Entries: digest[:]}, second},
		"another format":   {{Register: "rtmr2", Format: "digests", Entries: digest[:]}, second},
	} {
		e.OSLogs = list
		if r := appraiseT(t, encode(t, e), w.options()); r.Verdict != NotAuthentic || r.Step(StepBootLog).Outcome != Fail {
			t.Errorf("%s: taken", name)
		}
	}
	e.OSLogs = append(osLog(log), osLog(nil)...)
	if r := appraiseT(t, rawEncode(t, e), w.options()); r.ExitCode == 4 {
		t.Error("two logs: taken")
	}
}

// imaWorld is a TD whose kernel extends RTMR2 for IMA, and IMA's log.
func imaWorld(t *testing.T) (w *world, log []byte) {
	w = newWorld(t, sim.Config{})
	w.launch(idOne, "one", "/bin/one")
	for _, name := range []string{"boot_aggregate", "/usr/bin/true"} {
		line, digest := imaEntry(10, name)
		log = append(log, line...)
		if err := w.td.ExtendRTMR(t.Context(), 2, digest); err != nil {
			t.Fatal(err)
		}
	}
	return w, log
}

// TestOSLogsInClaims: where the claims name them, what a violation says is the
// agent's word, and not anybody's.
func TestOSLogsInClaims(t *testing.T) {
	w, log := imaWorld(t)
	var ones hw.Digest
	for i := range ones {
		ones[i] = 0xFF
	}
	if err := w.td.ExtendRTMR(t.Context(), 2, ones); err != nil {
		t.Fatal(err)
	}
	zero := fmt.Sprintf("%096d", 0)
	log = fmt.Appendf(log, "10 %s ima-ng sha384:%s /var/log/x\n", zero, zero)
	e := w.evidence(idOne)
	e.OSLogs = osLog(log)
	if s := appraiseT(t, encode(t, e), w.options()).Step(StepBootLog); s.Outcome != Warn {
		t.Errorf("a violation that nobody vouches for: %+v", s)
	}
	c := w.claims(idOne)
	plain, err := json.Marshal(osLog(log))
	if err != nil {
		t.Fatal(err)
	}
	canonical, err := jcs.Transform(plain)
	if err != nil {
		t.Fatal(err)
	}
	sum := sum384(canonical) // as the manual has it
	c.OSLogs = &sum
	e = w.seal(c, w.key)
	e.OSLogs = osLog(log)
	r := appraiseT(t, encode(t, e), w.options())
	expect(t, r, NotTrusted)
	if s := r.Step(StepBootLog); s.Outcome != Pass {
		t.Errorf("%+v", s)
	}
	for bit := 0; bit < len(log)*8; bit += 11 { // 11 and 8 share no factor
		changed := bytes.Clone(log)
		changed[bit/8] ^= 1 << (bit % 8)
		e.OSLogs = osLog(changed)
		if r := appraiseT(t, encode(t, e), w.options()); r.Step(StepBootLog).Outcome != Fail {
			t.Fatalf("bit %d of byte %d is free: %s", bit%8, bit/8, changed)
		}
	}
	e.OSLogs = nil
	expect(t, appraiseT(t, encode(t, e), w.options()), NotAuthentic, StepBootLog)
}

// imaEntry is a line of the ASCII log in the template ima-ng, and its digest.
func imaEntry(pcr int, name string) (line []byte, digest hw.Digest) {
	file := fmt.Sprintf("%096x", 0xabc)
	d := append([]byte("sha384:\x00"), unhex(file)...)
	n := append([]byte(name), 0)
	data := append(le32(len(d)), d...)
	data = append(append(data, le32(len(n))...), n...)
	digest = sum384(data)
	return fmt.Appendf(nil, "%2d %s ima-ng sha384:%s %s\n", pcr, digest, file, name), digest
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
			InitPolicy(r)
		}
	})
}
