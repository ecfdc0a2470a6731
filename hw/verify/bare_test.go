package verify

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-tdx-guest/testing/testdata"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify/replay"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/logs/canonical"
)

// files are the files that another system with this TD would provide.
func (w *world) files(data hw.ReportData) replay.Files {
	w.t.Helper()
	quote, err := w.td.Quote(context.Background(), data)
	if err != nil {
		w.t.Fatal(err)
	}
	boot, err := w.td.BootLog() // with its padding
	if err != nil {
		w.t.Fatal(err)
	}
	return replay.Files{Quote: append(quote, make([]byte, 99)...), BootLog: boot, RuntimeLog: w.runtimeLog()}
}

// runtimeLog is the log as cimad writes it.
func (w *world) runtimeLog() []byte {
	b := []byte(`{"cima":1,"boot_id":"x"}` + "\n")
	var register canonical.Digest
	for _, e := range w.log {
		after := register.Extend(e.Digest())
		b = fmt.Appendf(b, `{"before":"%s","after":"%s","event":%q}`+"\n", register, after, base64.StdEncoding.EncodeToString(e.Bytes()))
		register = after
	}
	return b
}

func appraiseFiles(t *testing.T, f replay.Files, opts Options) *Result {
	t.Helper()
	r, err := AppraiseQuote(context.Background(), f, opts)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestBareQuote(t *testing.T) {
	w := twoContainers(t)
	data := hw.ReportData(append([]byte("what the other system was asked"), make([]byte, 33)...))
	good := w.files(data)
	opts := Options{TrustRoots: w.roots(), Nonce: bytes.TrimRight(data[:], "\x00")}
	trusted := appraiseFiles(t, good, opts)
	expect(t, trusted, Authentic)
	for _, name := range []string{StepQuote, StepNonce, StepBootLog, StepRuntimeLog} {
		if s := trusted.Step(name); s.Outcome != Pass {
			t.Errorf("%+v", s)
		}
	}
	none := opts
	none.Nonce = nil
	expect(t, appraiseFiles(t, replay.Files{Quote: good.Quote}, none), Authentic) // logs that are not given are not required

	for name, c := range map[string]struct {
		change  func(f *replay.Files, o *Options)
		verdict Verdict
		failed  []string
	}{
		"Intel's root":       {func(f *replay.Files, o *Options) { o.TrustRoots = nil }, NotAuthentic, []string{StepQuote}},
		"a bit of the quote": {func(f *replay.Files, o *Options) { f.Quote[200] ^= 1 }, NotAuthentic, []string{StepQuote}},
		"no quote":           {func(f *replay.Files, o *Options) { f.Quote = []byte("quote") }, Malformed, []string{StepFormat}},
		"another nonce":      {func(f *replay.Files, o *Options) { o.Nonce = testNonce }, NotAuthentic, []string{StepNonce}},
		"a nonce cut short":  {func(f *replay.Files, o *Options) { o.Nonce = o.Nonce[:20] }, NotAuthentic, []string{StepNonce}},
		"another boot log": {func(f *replay.Files, o *Options) {
			f.BootLog = boot.Encode([]boot.Event{{MR: 1, Type: boot.EvSeparator, Data: make([]byte, 4)}})
		}, NotAuthentic, []string{StepBootLog}},
		"no boot log":         {func(f *replay.Files, o *Options) { f.BootLog = []byte("boot") }, Malformed, []string{StepFormat}},
		"a record dropped":    {func(f *replay.Files, o *Options) { f.RuntimeLog = dropLine(f.RuntimeLog, 3) }, NotAuthentic, []string{StepRuntimeLog}},
		"the last one too":    {func(f *replay.Files, o *Options) { f.RuntimeLog = dropLine(f.RuntimeLog, len(w.log)) }, NotAuthentic, []string{StepRuntimeLog}},
		"IMA entries, no IMA": {func(f *replay.Files, o *Options) { f.IMALog = []byte(stockIMALine) }, Authentic, nil},
		"an empty policy":     {func(f *replay.Files, o *Options) { o.Policy = parsePolicy(t, "cima_policy = 2\n") }, NotTrusted, []string{StepBootValues, StepNotProved}},
		"this boot's policy": {func(f *replay.Files, o *Options) {
			o.Policy = parsePolicy(t, bootText(trusted, ""))
		}, Trusted, nil},
		"another boot's policy": {func(f *replay.Files, o *Options) {
			o.Policy = parsePolicy(t, replaced(t, bootText(trusted, ""), trusted.Registers.RTMR[1].String(), "zero"))
		}, NotTrusted, []string{StepBootValues}},
		"a policy that knows callers": {func(f *replay.Files, o *Options) {
			o.Policy = parsePolicy(t, bootText(trusted, "")+"[[container]]\nname = \"x\"\nany = true\n")
		}, NotTrusted, []string{StepCallerValues}},
		"no nonce, and no waiver": {func(f *replay.Files, o *Options) {
			o.Nonce, o.Policy = nil, parsePolicy(t, replaced(t, bootText(trusted, ""), `"nonce",`, ""))
		}, NotTrusted, []string{StepNotProved}},
		"no collateral, and no waiver": {func(f *replay.Files, o *Options) {
			o.Policy = parsePolicy(t, replaced(t, bootText(trusted, ""), `"collateral",`, ""))
		}, NotTrusted, []string{StepNotProved}},
	} {
		f, o := good, opts
		f.Quote = bytes.Clone(f.Quote)
		c.change(&f, &o)
		r := appraiseFiles(t, f, o)
		t.Run(name, func(t *testing.T) { expect(t, r, c.verdict, c.failed...) })
		if name == "IMA entries, no IMA" && (r.Step(StepBootLog).Outcome != Warn || !strings.Contains(r.Step(StepBootLog).Detail, "nothing vouches for 1 IMA entries")) {
			t.Errorf("%+v", r.Step(StepBootLog))
		}
	}
}

const stockIMALine = "10 0000000000000000000000000000000000000000 ima-ng sha1:0000000000000000000000000000000000000000 boot_aggregate\n"

func dropLine(text []byte, n int) []byte {
	lines := bytes.SplitAfter(bytes.Clone(text), []byte("\n"))
	return bytes.Join(append(lines[:n], lines[n+1:]...), nil)
}

// TestBareDebug: a quote shows that its host can read the TD's memory; a policy
// that doesn't allow it refuses the quote.
func TestBareDebug(t *testing.T) {
	w := newWorld(t, sim.Config{Debug: true})
	f := w.files(hw.ReportData{})
	opts := Options{TrustRoots: w.roots()}
	r := appraiseFiles(t, f, opts)
	expect(t, r, Authentic)
	if s := r.Step(StepDebug); s.Outcome != Warn || !strings.Contains(texts(r.NotProved), "the host keeps out") {
		t.Errorf("%+v, not proved %+v", s, r.NotProved)
	}
	opts.Policy = parsePolicy(t, bootText(r, ""))
	expect(t, appraiseFiles(t, f, opts), NotAuthentic, StepDebug)
}

func TestReplayKnowsTheLastAgreement(t *testing.T) {
	w := twoContainers(t)
	f := w.files(hw.ReportData{})
	quoted, err := f.UnverifiedRegisters()
	if err != nil {
		t.Fatal(err)
	}
	replay := func(f replay.Files) *replay.Replayed {
		t.Helper()
		r, err := replay.Run(f, nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	all := len(w.log)
	r := replay(f)
	if n, known := r.LastAgreement(nil); n != all || !known || r.Disagreement() != "" {
		t.Errorf("%d, %v, %+v", n, known, r.Disagreement())
	}
	if n, known := r.LastAgreement(&quoted.RTMR[3]); n != all || !known {
		t.Errorf("with the quote %d, %v", n, known)
	}
	w.public(logs.OpSeal, `{"engines":["podman"]}`) // after the quote
	f.RuntimeLog = w.runtimeLog()
	r = replay(f)
	if n, known := r.LastAgreement(&quoted.RTMR[3]); n != all || !known || r.Against(quoted)[3].Agrees {
		t.Errorf("a log that went on: %d, %v, %+v", n, known, r.Against(quoted)[3])
	}
	f.RuntimeLog = dropLine(f.RuntimeLog, 3) // event 2
	r = replay(f)
	if n, known := r.LastAgreement(nil); n != 2 || !known || !strings.Contains(r.Disagreement(), "event 2 ") {
		t.Errorf("a record dropped: %d, %v, %+v", n, known, r.Disagreement())
	}
	if _, known := r.LastAgreement(&quoted.RTMR[3]); known {
		t.Error("a log that never had the quote's RTMR3 agrees with it")
	}
	lines := bytes.SplitAfter(w.runtimeLog(), []byte("\n"))
	lines[3] = bytes.Replace(lines[3], []byte(`"after":"`), []byte(`"after":"`+strings.Repeat("0", 96)+`","x":"`), 1)
	f.RuntimeLog = bytes.Join(lines, nil)
	if n, known := replay(f).LastAgreement(nil); n != 2 || !known {
		t.Errorf("one record lies: the first %d agree, %v", n, known)
	}
	f.RuntimeLog = nil
	if m := replay(f).Against(quoted)[3]; !m.NothingKnown {
		t.Errorf("no log speaks of RTMR3: %+v", m)
	}
	if _, known := replay(f).LastAgreement(nil); known {
		t.Error("no log, and yet an agreement")
	}
}

// TestRealQuotesBare: the quotes in go-tdx-guest, whose outcomes are known.
func TestRealQuotesBare(t *testing.T) {
	for name, c := range map[string]struct {
		quote   []byte
		outcome Outcome // of format
	}{
		"v4, with text behind it": {testdata.RawQuote, Warn},
		"v4, padded":              {append(cut(t, testdata.RawQuote), make([]byte, 3000)...), Pass},
		"v5":                      {testdata.RawQuoteV5, Pass},
	} {
		r := appraiseFiles(t, replay.Files{Quote: c.quote}, Options{At: whenMade})
		expect(t, r, Authentic)
		if s := r.Step(StepFormat); s.Outcome != c.outcome {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

// TestRealLogBare: a real boot log and its quote, from the same module.
func TestRealLogBare(t *testing.T) {
	dir := []byte("../../vendor/github.com/google/go-tdx-guest") // in a release tarball
	if _, err := os.Stat(string(dir)); err != nil {
		if dir, err = exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/google/go-tdx-guest").Output(); err != nil {
			t.Fatal(err)
		}
	}
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "testing/testdata/ccel", name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	f := replay.Files{Quote: read("cos-113-tdx-quote.dat"), BootLog: read("ccel_data.dat")}
	r := appraiseFiles(t, f, Options{At: whenMade})
	expect(t, r, Authentic)
	if s := r.Step(StepNonce); s.Outcome != Skip || !strings.Contains(s.Detail, "REPORTDATA is zero") {
		t.Errorf("its nonce is 64 zero bytes: %+v", s)
	}
	if _, err := AppraiseQuote(t.Context(), f, Options{At: whenMade, Nonce: read("nonce.dat")}); err == nil {
		t.Error("a nonce of zeros was taken")
	}
	if s := r.Step(StepBootLog); s.Outcome != Pass || len(s.Compared) != 3 {
		t.Errorf("%+v", s)
	}
	log, err := boot.Parse(f.BootLog)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range log.UnverifiedEvents() {
		if rtmr, ok := e.Extends(); ok && rtmr == 1 {
			f.BootLog[bytes.Index(f.BootLog, e.Digest[:])] ^= 1
			break
		}
	}
	if r := appraiseFiles(t, f, Options{At: whenMade}); r.ExitCode == 0 {
		t.Error("a changed boot log passed")
	}
}

// TestSharedBare judges logs and quotes of real TDs, if they are there: they
// are not part of the repository.
func TestSharedBare(t *testing.T) {
	const shared = "/work/shared/testdata"
	if _, err := os.Stat(shared); err != nil {
		t.Skipf("left out: %v (captured on real TDs, not part of the repo)", err)
	}
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(shared, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	gcp := replay.Files{Quote: read("gcp-cos113/quote.bin"), BootLog: read("gcp-cos113/ccel.bin")}
	expect(t, appraiseFiles(t, gcp, Options{At: whenMade}), Authentic)
	api := replay.Files{Quote: read("evidence-api/quote.bin"), BootLog: read("evidence-api/ccel.bin"), IMALog: read("evidence-api/ima.ascii")}
	expect(t, appraiseFiles(t, api, Options{At: whenMade}), NotAuthentic, StepQuote)
	api.IMALog = nil // RTMR2 covers more than the boot
	expect(t, appraiseFiles(t, api, Options{At: whenMade}), NotAuthentic, StepQuote, StepBootLog)
}
