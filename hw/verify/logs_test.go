package verify

import (
	"bytes"
	"context"
	"crypto/sha512"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cima-project/cima/logs/canonical"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/rpc"
)

// A private log shows nothing of others, so the log rests on the daemon's claim
// alone: the result says so, and a policy must allow it.
func TestPrivateLog(t *testing.T) {
	w := twoContainers(t)
	replays := appraiseT(t, encode(t, w.evidence(idOne)), w.options())
	strict := policyOf(t, replays)
	c := w.claims(idOne)
	c.Log.View = rpc.ViewPrivate
	good := w.seal(c, w.key)
	whole := good.RuntimeLog
	good.RuntimeLog = slices.DeleteFunc(slices.Clone(whole), func(r rpc.LogEntry) bool { return r.Digests != nil })
	r := appraiseT(t, encode(t, good), w.options())
	expect(t, r, NotTrusted)
	if s := r.Step(StepRuntimeLog); s.Outcome != Warn || !strings.Contains(s.Detail, "not judged") {
		t.Errorf("%+v", s)
	}
	words := texts(r.NotProved)
	if strings.Contains(texts(r.Proved), "whole") || !strings.Contains(words, "doesn't replay") {
		t.Errorf("proved %+v, not proved %+v", r.Proved, words)
	}
	for name, tt := range map[string]struct {
		policy *policy.Policy
		want   Verdict
	}{"one of a log that replays": {strict, NotTrusted}, "its own": {policyOf(t, r), Trusted}} {
		opts := w.options()
		opts.Policy = tt.policy
		if got := appraiseT(t, encode(t, good), opts); got.Verdict != tt.want {
			t.Errorf("%s: %s: %s", name, got.Verdict, got.Reason)
		}
	}
	lacking := func(i int) []rpc.LogEntry { return slices.Delete(slices.Clone(good.RuntimeLog), i, i+1) }
	for i := range good.RuntimeLog {
		e := *good
		if e.RuntimeLog = lacking(i); appraiseT(t, encode(t, &e), w.options()).Verdict != NotAuthentic {
			t.Errorf("record %d is not missed", i)
		}
	}
	e := *good
	e.RuntimeLog = whole
	expect(t, appraiseT(t, encode(t, &e), w.options()), NotAuthentic, StepRuntimeLog)
	// A log that must replay is refused if records were left out.
	c.Log.View = ""
	e = *w.seal(c, w.key)
	e.RuntimeLog = good.RuntimeLog
	if r := appraiseT(t, encode(t, &e), w.options()); r.Verdict != NotAuthentic {
		t.Errorf("without the claim: %s", r.Verdict)
	}
}

// TestBootLogStaysOutOfRTMR3: a boot log that extends the runtime log's
// register is refused, even if the agent names it.
func TestBootLogStaysOutOfRTMR3(t *testing.T) {
	w := twoContainers(t)
	longer := boot.AppendEvent(w.bootLog(), boot.Event{MR: 4, Type: boot.EvEventTag, Data: []byte("x")})
	c := w.claims(idOne)
	c.BootLog = sha512.Sum384(longer)
	e := w.seal(c, w.key)
	e.BootLog = longer
	expect(t, appraiseT(t, encode(t, e), w.options()), NotAuthentic, StepBootLog)

	longer = boot.AppendEvent(w.bootLog(), boot.Event{MR: 1, Type: boot.EvEventTag, Data: []byte("x")})
	c.BootLog = sha512.Sum384(longer)
	e = w.seal(c, w.key)
	e.BootLog = longer
	expect(t, appraiseT(t, encode(t, e), w.options()), NotAuthentic, StepBootLog)
}

func TestReportDataAnchor(t *testing.T) {
	w := twoContainers(t)
	var foreign [48]byte
	if err := w.td.Extend(context.Background(), foreign); err != nil {
		t.Fatal(err)
	}
	c := w.claims(idOne)
	expect(t, appraiseT(t, encode(t, w.seal(c, w.key)), w.options()), NotAuthentic, StepRuntimeLog)

	c.Log.Anchor = "report-data"
	bundle, opts := encode(t, w.seal(c, w.key)), w.options()
	r := appraiseT(t, bundle, opts)
	expect(t, r, NotTrusted)
	if s := r.Step(StepRuntimeLog); s.Outcome != Warn || !strings.Contains(s.Detail, "not judged") {
		t.Errorf("step %+v", s)
	}
	if all := texts(r.NotProved); !strings.Contains(all, "RTMR3 is not its anchor") {
		t.Errorf("missing in NotProved: %s", all)
	}
	made := textOf(t, r)
	opts.Policy = parsePolicy(t, replaced(t, made, `"anchor",`, ""))
	expect(t, appraiseT(t, bundle, opts), NotTrusted, StepNotProved)
	opts.Policy = parsePolicy(t, made)
	expect(t, appraiseT(t, bundle, opts), Trusted)

	// No register covers the events after the claims.
	e := w.seal(c, w.key)
	e.RuntimeLog = append(e.RuntimeLog, e.RuntimeLog[1])
	expect(t, appraiseT(t, encode(t, e), opts), NotAuthentic, StepRuntimeLog)
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
		t.Errorf("detail %+v", got)
	}
	for bit := 0; bit < len(log)*8; bit += 3 { // 3 and 8 have no common factor: all bits of bytes are flipped
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
	// Runs of entries and of digests, whatever is shown, give the same result.
	line, digest := imaEntry(10, "boot_aggregate")
	first := rpc.OSLog{Register: "rtmr2", Format: rpc.FormatIMADigests, Entries: digest[:]}
	second := osLog(log[len(line):])[0]
	e.OSLogs = []rpc.OSLog{first, second}
	r = appraiseT(t, encode(t, e), w.options())
	expect(t, r, NotTrusted)
	if got := r.Step(StepBootLog).Detail; got != "32 boot events and 2 IMA entries (of 1 only the digest is shown) replay to RTMR0–2" {
		t.Errorf("detail %+v", got)
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

// TestOSLogsInClaims: if the claims name the logs, the content of a violation
// rests on the agent's claim, and nobody else can change it.
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
		t.Errorf("a violation without a digest: %+v", s)
	}
	c := w.claims(idOne)
	sum, err := canonical.Sum(osLog(log)) // as the manual defines it
	if err != nil {
		t.Fatal(err)
	}
	c.OSLogs = &sum
	e = w.seal(c, w.key)
	e.OSLogs = osLog(log)
	r := appraiseT(t, encode(t, e), w.options())
	expect(t, r, NotTrusted)
	if s := r.Step(StepBootLog); s.Outcome != Pass {
		t.Errorf("%+v", s)
	}
	for bit := 0; bit < len(log)*8; bit += 11 { // 11 and 8 have no common factor
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
