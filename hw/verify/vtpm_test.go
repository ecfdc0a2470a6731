package verify

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify/codes"
	"github.com/cima-project/cima/hw/verify/snp/snptest"
	"github.com/cima-project/cima/hw/verify/vtpm"
	"github.com/cima-project/cima/hw/verify/vtpm/vtpmtest"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/logs/canonical"
	"github.com/cima-project/cima/rpc"
)

// azureWorld is a world whose registers are a TPM's in a paravisor, on a TD or, with a
// chip, on an SNP guest.
type azureWorld struct {
	*world
	tpm  *vtpmtest.TPM
	chip *snptest.Chip
}

func newAzure(t testing.TB, chip *snptest.Chip) *azureWorld {
	t.Helper()
	td, err := sim.Boot(sim.Config{BootLog: boot.Encode(nil)}) // a paravisor leaves RTMRs zero
	if err != nil {
		t.Fatal(err)
	}
	a := &azureWorld{&world{t: t, td: td, key: newKey(1), other: true}, vtpmtest.New(), chip}
	id, err := td.BootID()
	if err != nil {
		t.Fatal(err)
	}
	a.public(logs.OpStart, fmt.Sprintf(`{"version":"1","agent_key":%q,"boot_id":%q,"register":{"pcr":13,"first":{"sha256":"%064d","sha384":"%096d"}}}`,
		base64.StdEncoding.EncodeToString(publicOf(a.key)), id, 0, 0))
	a.public(logs.OpSeal, `{"engines":["docker"]}`)
	a.launch(idOne, "one", "/bin/one")
	for _, e := range a.log {
		a.extend(e)
	}
	return a
}

func (a *azureWorld) extend(e logs.Event) { a.extendIn(13, e) }

func (a *azureWorld) extendIn(number int, e logs.Event) {
	digest := e.Digest()
	a.tpm.Extend(number, sha256.Sum256(digest[:]))
}

func (a *azureWorld) claims(id string) *rpc.Claims {
	c := a.world.claims(id)
	c.BootLog, c.BootLogFormat, c.Log.Anchor = sha512.Sum384(a.tpm.Log), "tpm", "pcr"
	return c
}

// seal makes evidence of these claims. change may change the SNP report.
func (a *azureWorld) seal(c *rpc.Claims, change ...func([]byte)) *rpc.Evidence {
	a.t.Helper()
	claims, err := canonical.Marshal(c)
	if err != nil {
		a.t.Fatal(err)
	}
	data, err := rpc.ReportData(claims)
	if err != nil {
		a.t.Fatal(err)
	}
	attest := a.tpm.Attest(vtpm.DataFor(data))
	e := &rpc.Evidence{
		Profile: rpc.EvidenceProfile, TEE: "azure-tdx", Claims: claims, AgentSignature: rpc.SignReportData(a.key, data), BootLog: a.tpm.Log, RuntimeLog: a.view(idOne),
		Platform: rpc.Platform{RuntimeData: a.tpm.Runtime(), TPMQuote: attest, TPMSignature: a.tpm.Sign(a.t, attest), PCRs: a.tpm.PCRs()},
	}
	if a.chip != nil {
		e.TEE, e.Quote, e.Platform.Certificates = "azure-snp", a.chip.Report(a.t, a.tpm.ReportData(), change...), a.chip.Certificates()
	} else if e.Quote, err = a.td.Quote(context.Background(), hw.ReportData(a.tpm.ReportData())); err != nil {
		a.t.Fatal(err)
	}
	return e
}

func (a *azureWorld) options() Options {
	if a.chip == nil {
		return a.world.options()
	}
	return Options{Nonce: testNonce, TrustRoots: []*x509.Certificate{a.chip.Root}, At: snptest.From.AddDate(0, 6, 0)}
}

// TestAzure: evidence of a TPM in a paravisor is appraised, on both kinds of hardware, and
// policy init writes a policy that it meets.
func TestAzure(t *testing.T) {
	for name, chip := range map[string]*snptest.Chip{"TDX": nil, "SNP": snptest.New(t, "Genoa", false)} {
		a := newAzure(t, chip)
		bundle, opts := encode(t, a.seal(a.claims(idOne))), a.options()
		first := appraiseT(t, bundle, opts)
		expect(t, first, NotTrusted)
		for _, s := range first.Steps {
			if s.Outcome == Fail {
				t.Errorf("%s, %s: %s", name, s.Name, s.Detail)
			}
		}
		if !told(first, codes.Paravisor) {
			t.Errorf("%s: a paravisor that nobody knows is not told", name)
		}
		for _, code := range []string{codes.NoRegister, codes.Anchor} {
			if told(first, code) {
				t.Errorf("%s: %s is told of a log that a PCR holds", name, code)
			}
		}
		opts.Policy = parsePolicy(t, textOf(t, first))
		second := appraiseT(t, bundle, opts)
		expect(t, second, Trusted)
		if !strings.Contains(texts(second.Proved), "the runtime log is whole: 4 events replay to PCR 13") || told(second, codes.Paravisor) {
			t.Errorf("%s: %v", name, second.Proved)
		}
		if second.Boot == nil || second.Boot.VTPM != "first-seen-1" || told(second, codes.PCRsVary) {
			t.Errorf("%s: %+v, %v", name, second.Boot, second.NotProved)
		}
	}
}

// TestAzureSteps: each step fails for what is its own.
func TestAzureSteps(t *testing.T) {
	chip := snptest.New(t, "Milan", false)
	td, guest := newAzure(t, nil), newAzure(t, chip)
	texts := map[*azureWorld]string{}
	for _, a := range []*azureWorld{td, guest} {
		texts[a] = textOf(t, appraiseT(t, encode(t, a.seal(a.claims(idOne))), a.options()))
	}
	for name, c := range map[string]struct {
		of      *azureWorld
		claims  func(*rpc.Claims)
		change  func(*rpc.Evidence)
		tpm     func(*vtpmtest.TPM)
		report  func([]byte)
		policy  func(string) string
		step    string
		verdict Verdict
	}{
		"another paravisor's text": {of: td, change: func(e *rpc.Evidence) {
			e.Platform.RuntimeData = slices.Concat(e.Platform.RuntimeData, []byte(" "))
		}, step: StepQuote, verdict: NotAuthentic},
		"another's PCRs":      {of: td, change: func(e *rpc.Evidence) { e.Platform.PCRs[0] ^= 1 }, step: StepQuote, verdict: NotAuthentic},
		"another's signature": {of: guest, change: func(e *rpc.Evidence) { e.Platform.TPMSignature[20] ^= 1 }, step: StepQuote, verdict: NotAuthentic},
		"the guest's own report": {of: guest, report: func(raw []byte) { raw[0x30] = 2 },
			policy: func(s string) string { return strings.Replace(s, "[snp]\n", "[snp]\nvmpl = \"2\"\n", 1) }, step: StepQuote, verdict: NotAuthentic},
		"other data": {of: td, change: func(e *rpc.Evidence) {
			e.Platform.TPMQuote = td.tpm.Attest([]byte("challenge"))
			e.Platform.TPMSignature = td.tpm.Sign(t, e.Platform.TPMQuote)
		}, step: StepReportData, verdict: NotAuthentic},
		"another boot log": {of: td, change: func(e *rpc.Evidence) { e.BootLog = e.BootLog[:len(e.BootLog)-1] }, step: StepBootLog, verdict: NotAuthentic},
		"firmware extends more": {of: td, tpm: func(m *vtpmtest.TPM) { m.Extend(4, [32]byte{1}) },
			step: StepBootLog, verdict: NotAuthentic},
		"the system extends more": {of: td, tpm: func(m *vtpmtest.TPM) { m.Extend(11, [32]byte{1}) },
			step: StepBootValues, verdict: NotTrusted},
		"somebody extends the log's": {of: td, tpm: func(m *vtpmtest.TPM) { m.Extend(13, [32]byte{1}) },
			step: StepRuntimeLog, verdict: NotAuthentic},
		"another paravisor": {of: td, policy: func(s string) string {
			i := strings.Index(s, "paravisor = [\"") + len("paravisor = [\"")
			return s[:i] + strings.Repeat("1", 96) + s[i+96:]
		}, step: StepBootValues, verdict: NotTrusted},
		"another PCR 7": {of: guest, policy: func(s string) string {
			i := strings.Index(s, "pcr7 = [\"") + len("pcr7 = [\"")
			return s[:i] + strings.Repeat("1", 64) + s[i+64:]
		}, step: StepBootValues, verdict: NotTrusted},
		"a log elsewhere": {of: td, policy: func(s string) string {
			return strings.Replace(strings.Replace(s, `pcr13 = ["log"]`, `pcr13 = "zero"`, 1), `pcr12 = ["zero"]`, `pcr12 = "log"`, 1)
		}, step: StepBootValues, verdict: NotTrusted},
		"a PCR left open": {of: td, policy: func(s string) string { return strings.Replace(s, `pcr9 = [`, `pcr9 = ["any", `, 1) },
			step: StepNotProved, verdict: NotTrusted},
		"a revoked event of the boot": {of: guest, policy: func(s string) string {
			return s + fmt.Sprintf("\n[[revoked]]\ndigest = \"sha256:%x\"\nwhy = \"CVE\"\n", sha256.Sum256([]byte("part 4 of the boot")))
		}, step: StepPolicy, verdict: NotTrusted},
		"a revoked event, by SHA-384": {of: td, policy: func(s string) string {
			return s + fmt.Sprintf("\n[[revoked]]\ndigest = \"%x\"\nwhy = \"CVE\"\n", sha512.Sum384([]byte("part 9 of the boot")))
		}, step: StepPolicy, verdict: NotTrusted},
		"a revoked PCR": {of: td, policy: func(s string) string {
			return s + fmt.Sprintf("\n[[revoked]]\ndigest = \"sha256:%x\"\nwhy = \"CVE\"\n", td.tpm.PCRs()[7*32:8*32])
		}, step: StepPolicy, verdict: NotTrusted},
		"the agent's word": {of: td, claims: func(c *rpc.Claims) { c.Log.Anchor = "report-data" }, step: StepBootValues, verdict: NotTrusted},
	} {
		a := &azureWorld{c.of.world, c.of.tpm, c.of.chip}
		if c.tpm != nil {
			changed := *a.tpm
			c.tpm(&changed)
			a.tpm = &changed
		}
		claims, text, opts := a.claims(idOne), texts[c.of], a.options()
		if c.claims != nil {
			c.claims(claims)
		}
		var report []func([]byte)
		if c.report != nil {
			report = append(report, c.report)
		}
		e := a.seal(claims, report...)
		if c.change != nil {
			c.change(e)
		}
		if c.policy != nil {
			text = c.policy(text)
		}
		opts.Policy = parsePolicy(t, text)
		r := appraiseT(t, encode(t, e), opts)
		if r.Verdict != c.verdict || r.Step(c.step).Outcome != Fail || !strings.HasPrefix(r.Reason, c.step+":") {
			t.Errorf("%s: %s, %s; must be %s, by %s", name, r.Verdict, r.Reason, c.verdict, c.step)
		}
	}
}

// TestAzureIsItsOwn: evidence of a TPM in a paravisor is never taken for another's, nor is
// another's for it.
func TestAzureIsItsOwn(t *testing.T) {
	g, w := newGuest(t), twoContainers(t)
	td, guest := newAzure(t, nil), newAzure(t, g.chip)
	roots := append(append(g.options().TrustRoots, w.roots()...), td.roots()...)
	plain := map[string]*rpc.Evidence{"a TD": w.evidence(idOne), "a guest": g.seal(g.claims(idOne))}
	for name, a := range map[string]*azureWorld{"Azure's TD": td, "Azure's guest": guest} {
		e := a.seal(a.claims(idOne))
		text := textOf(t, appraiseT(t, encode(t, e), a.options()))
		for other, p := range plain {
			opts := Options{Nonce: testNonce, TrustRoots: roots, Policy: parsePolicy(t, text)}
			if other == "a guest" {
				opts.At = g.options().At
			}
			if r := appraiseT(t, encode(t, p), opts); r.Verdict != NotTrusted || r.outcome(StepBootValues) != Fail {
				t.Errorf("%s under a policy of %s: %s, %s", other, name, r.Verdict, r.Reason)
			}
		}
		for what, change := range map[string]func(e *rpc.Evidence){
			"called a TD":     func(e *rpc.Evidence) { e.TEE = "tdx" },
			"called a guest":  func(e *rpc.Evidence) { e.TEE = "snp" },
			"no text":         func(e *rpc.Evidence) { e.Platform.RuntimeData = nil },
			"no quote":        func(e *rpc.Evidence) { e.Platform.TPMQuote = nil },
			"no signature":    func(e *rpc.Evidence) { e.Platform.TPMSignature = nil },
			"no PCRs":         func(e *rpc.Evidence) { e.Platform.PCRs = nil },
			"a log of IMA":    func(e *rpc.Evidence) { e.OSLogs = osLog([]byte("10 x")) },
			"a CCEL":          func(e *rpc.Evidence) { c := a.claims(idOne); c.BootLogFormat = ""; *e = *a.seal(c) },
			"no log":          func(e *rpc.Evidence) { c := a.claims(idOne); c.BootLogFormat = "none"; *e = *a.seal(c) },
			"a register RTMR": func(e *rpc.Evidence) { c := a.claims(idOne); c.Log.Anchor = "rtmr3"; *e = *a.seal(c) },
			"the other's kind": func(e *rpc.Evidence) {
				e.TEE = map[string]string{"azure-tdx": "azure-snp", "azure-snp": "azure-tdx"}[e.TEE]
			},
		} {
			e := a.seal(a.claims(idOne))
			change(e)
			opts := a.options()
			opts.TrustRoots = roots
			if r := appraiseT(t, encode(t, e), opts); r.Verdict != Malformed {
				t.Errorf("%s, %s: %s, %s", name, what, r.Verdict, r.Reason)
			}
		}
	}
}
