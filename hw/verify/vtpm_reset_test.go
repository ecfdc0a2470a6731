package verify

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify/codes"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/rpc"
)

// again is the same VM after root removed its log and started an agent again, which logs to
// this PCR: nothing of the log before is in the new one.
func (a *azureWorld) again(number int) *azureWorld {
	a.t.Helper()
	id, err := a.td.BootID()
	if err != nil {
		a.t.Fatal(err)
	}
	b := &azureWorld{&world{t: a.t, td: a.td, key: newKey(2), other: true}, a.tpm, a.chip}
	b.public(logs.OpStart, fmt.Sprintf(`{"version":"1","agent_key":%q,"boot_id":%q,"register":{"pcr":%d,"first":{"sha256":"%x"}}}`,
		base64.StdEncoding.EncodeToString(publicOf(b.key)), id, number, a.tpm.PCRs()[32*number:32*number+32]))
	b.launch(idOne, "one", "/bin/one")
	for _, e := range b.log {
		b.extendIn(number, e)
	}
	return b
}

// TestLogBegunAgain: a log that root began anew, in a PCR that holds another before it or in
// another one, is never told to be whole, whatever PCRs a policy leaves open.
func TestLogBegunAgain(t *testing.T) {
	for name, c := range map[string]struct {
		number int
		log    string // what the policy has for pcr13
		step   string
	}{
		"the same PCR, as the policy wants it":   {13, `pcr13 = ["log"]`, StepBootValues},
		"another PCR, as the policy wants it":    {14, `pcr13 = ["log"]`, StepBootValues},
		"the same PCR, and the policy has any":   {13, `pcr13 = ["any"]`, StepNotProved},
		"another PCR, and the policy has any":    {14, `pcr13 = ["any"]`, StepNotProved},
		"the same PCR, and the policy has none":  {13, ``, StepNotProved},
		"another PCR, and the policy has none":   {14, ``, StepNotProved},
		"nobody began anew, the policy has any":  {0, `pcr13 = ["any"]`, StepNotProved},
		"nobody began anew, the policy has none": {0, ``, StepNotProved},
	} {
		a := newAzure(t, nil)
		text := textOf(t, appraiseT(t, encode(t, a.seal(a.claims(idOne))), a.options()))
		text = replaced(t, text, `pcr13 = ["log"]`, c.log, `pcr14 = ["zero"]`, ``, `waive = [`, `waive = ["`+codes.PCRsVary+`", "`+codes.Paravisor+`", `)
		if c.number != 0 {
			a = a.again(c.number)
		}
		opts := a.options()
		opts.Policy = parsePolicy(t, text)
		r := appraiseT(t, encode(t, a.seal(a.claims(idOne))), opts)
		if r.Verdict != NotTrusted || !strings.HasPrefix(r.Reason, c.step+":") || strings.Contains(texts(r.Proved), "log is whole") {
			t.Errorf("%s: %s, %s\n%s", name, r.Verdict, r.Reason, texts(r.Proved))
		}
	}
}

// TestParavisorsRegisters: MRTD alone is a policy's, so a paravisor that measured more into an
// RTMR is not the one that it knows.
func TestParavisorsRegisters(t *testing.T) {
	for i := range 4 {
		a := newAzure(t, nil)
		opts := a.options()
		opts.Policy = parsePolicy(t, textOf(t, appraiseT(t, encode(t, a.seal(a.claims(idOne))), opts)))
		if i < 3 {
			td, err := sim.Boot(sim.Config{BootLog: boot.Encode([]boot.Event{{MR: uint32(i + 1), Type: 4, Digest: [48]byte{1}}})})
			if err != nil {
				t.Fatal(err)
			}
			a.td = td
		} else if err := a.td.Extend(t.Context(), [48]byte{1}); err != nil {
			t.Fatal(err)
		}
		opts.TrustRoots = a.roots()
		r := appraiseT(t, encode(t, a.seal(a.claims(idOne))), opts)
		if r.Verdict != NotTrusted || !strings.Contains(r.Reason, fmt.Sprintf("boot-values: not as in the nearest known boot, \"as first seen\": RTMR%d is ", i)) {
			t.Errorf("RTMR%d: %s, %s", i, r.Verdict, r.Reason)
		}
	}
}

// TestPrivateLogOfPCR: a log that shows nothing of other containers is judged as on other
// platforms, and not told to be whole.
func TestPrivateLogOfPCR(t *testing.T) {
	a := newAzure(t, nil)
	c := a.claims(idOne)
	c.Log.View = rpc.ViewPrivate
	r := appraiseT(t, encode(t, a.seal(c)), a.options())
	if r.outcome(StepRuntimeLog) != Warn || !told(r, codes.Private) || told(r, codes.LogPCR) {
		t.Errorf("%+v, %s", r.Step(StepRuntimeLog), texts(r.NotProved))
	}
}

// TestReportOfAnyTime: the nonce is not in what the hardware signed.
func TestReportOfAnyTime(t *testing.T) {
	a, w := newAzure(t, nil), twoContainers(t)
	if r := appraiseT(t, encode(t, a.seal(a.claims(idOne))), a.options()); !told(r, codes.ReportTime) {
		t.Error("behind a TPM it is not told")
	}
	if r := appraiseT(t, encode(t, w.evidence(idOne)), w.options()); told(r, codes.ReportTime) {
		t.Error("it is told of a TD that asks the hardware itself")
	}
}

// TestOpenBootIsNobodys: where a policy leaves open what was booted, and waives that, nobody is told
// to know who wrote it.
func TestOpenBootIsNobodys(t *testing.T) {
	a := newAzure(t, nil)
	text := textOf(t, appraiseT(t, encode(t, a.seal(a.claims(idOne))), a.options()))
	text = regexp.MustCompile(`(?m)^(pcr[0-9]+ =) \["[0-9a-f]+"\]`).ReplaceAllString(text, `$1 "any"`)
	text = replaced(t, text, `root = "not covered"`, `root = "verity"
line = "roothash=`+strings.Repeat("ab", 32)+`"`, `waive = [`, `waive = ["`+codes.PCRsVary+`", "`+codes.Paravisor+`", `)
	opts := a.options()
	opts.Policy = parsePolicy(t, text)
	r := appraiseT(t, encode(t, a.seal(a.claims(idOne))), opts)
	expect(t, r, Trusted)
	if told(r, codes.Root) || !told(r, codes.PCRsVary) {
		t.Errorf("not the case that is meant: %s", texts(r.NotProved))
	}
	if proved := texts(r.Proved); !strings.Contains(proved, "and not what was booted beside it") || strings.Contains(proved, "you know who asked") {
		t.Error(proved)
	}
}
