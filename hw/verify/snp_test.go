package verify

import (
	"crypto/sha512"
	"crypto/x509"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cima-project/cima/hw/verify/codes"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/hw/verify/snp"
	"github.com/cima-project/cima/hw/verify/snp/snptest"
	"github.com/cima-project/cima/logs/canonical"
	"github.com/cima-project/cima/rpc"
)

// guestWorld is a world whose evidence an SNP guest's firmware signs.
type guestWorld struct {
	*world
	chip *snptest.Chip
}

func newGuest(t testing.TB) *guestWorld {
	t.Helper()
	return &guestWorld{twoContainers(t), snptest.New(t, "Milan", false)}
}

func (g *guestWorld) claims(id string) *rpc.Claims {
	c := g.world.claims(id)
	c.BootLog, c.BootLogFormat, c.Log.Anchor = sha512.Sum384(nil), "none", "report-data"
	return c
}

// seal makes evidence of these claims. change may change the report before it is signed.
func (g *guestWorld) seal(c *rpc.Claims, change ...func(raw []byte)) *rpc.Evidence {
	g.t.Helper()
	claims, err := canonical.Marshal(c)
	if err != nil {
		g.t.Fatal(err)
	}
	data, err := rpc.ReportData(claims)
	if err != nil {
		g.t.Fatal(err)
	}
	return &rpc.Evidence{
		Profile: rpc.EvidenceProfile, TEE: "snp", Quote: g.chip.Report(g.t, data, change...), Platform: rpc.Platform{Certificates: g.chip.Certificates()},
		Claims: claims, AgentSignature: rpc.SignReportData(g.key, data), BootLog: []byte{}, RuntimeLog: g.view(idOne),
	}
}

func (g *guestWorld) options() Options {
	return Options{Nonce: testNonce, TrustRoots: []*x509.Certificate{g.chip.Root}, At: snptest.From.AddDate(0, 6, 0)}
}

// TestGuest: evidence of an SNP guest is appraised, policy init writes a policy that it
// meets, and what such a guest can't prove stands there.
func TestGuest(t *testing.T) {
	g := newGuest(t)
	bundle, opts := encode(t, g.seal(g.claims(idOne))), g.options()
	first := appraiseT(t, bundle, opts)
	expect(t, first, NotTrusted)
	for _, s := range first.Steps {
		if s.Outcome == Fail {
			t.Errorf("%s: %s", s.Name, s.Detail)
		}
	}
	if first.Guest == nil || first.Registers != nil || first.Guest.Line != snp.Milan || first.Guest.Measurement[0] != 0xA0 || first.Guest.TCB != "bl 4, tee 0, snp 24, ucode 219" {
		t.Errorf("%+v, %+v", first.Guest, first.Registers)
	}
	for _, code := range []string{codes.NoRegister, codes.SNPLevel, codes.Collateral, codes.Platform, codes.BootUnknown} {
		if !told(first, code) {
			t.Errorf("%s is not told", code)
		}
	}
	if told(first, codes.Anchor) {
		t.Error("what is told of a TD without its register is told of a guest")
	}

	text := guestText(t, first)
	opts.Policy = parsePolicy(t, text)
	second := appraiseT(t, bundle, opts)
	expect(t, second, Trusted)
	if second.Boot == nil || second.Boot.Measured != "first-seen-1" || !told(second, codes.BootFirmware) || told(second, codes.SNPLevel) {
		t.Errorf("%+v\n%v", second.Boot, second.NotProved)
	}
	// Each of what stands in the way does so by itself.
	for _, code := range []string{codes.NoRegister, codes.BootFirmware, codes.Collateral} {
		opts.Policy = parsePolicy(t, replaced(t, text, `   "`+code+`",`, `#  "`+code+`",`))
		if r := appraiseT(t, bundle, opts); r.Verdict != NotTrusted || !strings.HasPrefix(r.Reason, StepNotProved) {
			t.Errorf("without waiving %s: %s, %s", code, r.Verdict, r.Reason)
		}
	}
}

// guestText is textOf, and waives that the firmware alone is measured.
func guestText(t testing.TB, r *Result) string {
	t.Helper()
	return replaced(t, textOf(t, r), `#  "boot-firmware-alone"`, `   "boot-firmware-alone"`)
}

func told(r *Result, code string) bool {
	for _, s := range r.NotProved {
		if s.Code == code {
			return true
		}
	}
	return false
}

// TestGuestSteps: each step fails for what is its own.
func TestGuestSteps(t *testing.T) {
	g := newGuest(t)
	first := appraiseT(t, encode(t, g.seal(g.claims(idOne))), g.options())
	text := guestText(t, first)
	other := snptest.New(t, "Milan", false)
	for name, c := range map[string]struct {
		make    func() *rpc.Evidence
		policy  func(string) string
		options func(*Options)
		step    string
		verdict Verdict
	}{
		"another chip": {make: func() *rpc.Evidence {
			e := g.seal(g.claims(idOne))
			e.Platform.Certificates[0] = other.Leaf.Raw
			return e
		}, step: StepQuote, verdict: NotAuthentic},
		"AMD's root": {options: func(o *Options) { o.TrustRoots = nil }, step: StepQuote, verdict: NotAuthentic},
		"debug":      {make: func() *rpc.Evidence { return g.seal(g.claims(idOne), func(raw []byte) { raw[0x00A] |= 1 << 3 }) }, step: StepDebug, verdict: NotAuthentic},
		"a migration agent": {make: func() *rpc.Evidence { return g.seal(g.claims(idOne), func(raw []byte) { raw[0x160] = 0 }) },
			step: StepDebug, verdict: NotAuthentic},
		"an old firmware, committed": {make: func() *rpc.Evidence { return g.seal(g.claims(idOne), func(raw []byte) { raw[0x1E6]-- }) },
			step: StepTCB, verdict: NotTrusted},
		"an old firmware, at launch": {make: func() *rpc.Evidence { return g.seal(g.claims(idOne), func(raw []byte) { raw[0x1F7]-- }) },
			step: StepTCB, verdict: NotTrusted},
		"another line": {policy: func(s string) string { return strings.Replace(s, "min_tcb.milan", "min_tcb.genoa", 1) },
			step: StepTCB, verdict: NotTrusted},
		"reserved in POLICY": {make: func() *rpc.Evidence { return g.seal(g.claims(idOne), func(raw []byte) { raw[0x00B] |= 1 << 7 }) },
			step: StepTD, verdict: NotTrusted},
		"CXL": {make: func() *rpc.Evidence { return g.seal(g.claims(idOne), func(raw []byte) { raw[0x00A] |= 1 << 5 }) },
			step: StepTD, verdict: NotTrusted},
		"VMPL 2": {make: func() *rpc.Evidence { return g.seal(g.claims(idOne), func(raw []byte) { raw[0x030] = 2 }) },
			step: StepTD, verdict: NotTrusted},
		"the host's data": {make: func() *rpc.Evidence { return g.seal(g.claims(idOne), func(raw []byte) { raw[0x0C0] = 2 }) },
			step: StepTD, verdict: NotTrusted},
		"another measurement": {make: func() *rpc.Evidence { return g.seal(g.claims(idOne), func(raw []byte) { raw[0x090] = 2 }) },
			step: StepBootValues, verdict: NotTrusted},
		"other claims": {make: func() *rpc.Evidence {
			e := g.seal(g.claims(idOne))
			e.Quote = g.chip.Report(t, [64]byte{1})
			return e
		}, step: StepReportData, verdict: NotAuthentic},
		"another boot log": {make: func() *rpc.Evidence {
			c := g.claims(idOne)
			c.BootLog[0]++
			return g.seal(c)
		}, step: StepBootLog, verdict: NotAuthentic},
		"later events": {make: func() *rpc.Evidence {
			e := g.seal(g.claims(idOne))
			e.RuntimeLog = append(e.RuntimeLog, e.RuntimeLog[1])
			return e
		}, step: StepRuntimeLog, verdict: NotAuthentic},
		"no certificates": {make: func() *rpc.Evidence {
			e := g.seal(g.claims(idOne))
			e.Platform = rpc.Platform{}
			return e
		}, step: StepQuote, verdict: NotAuthentic},
		"a revoked measurement": {policy: func(s string) string {
			return s + "\n[[revoked]]\ndigest = \"" + first.Guest.Measurement.String() + "\"\nwhy = \"CVE\"\n"
		}, step: StepPolicy, verdict: NotTrusted},
		"a revoked intermediate": {options: func(o *Options) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, g.chip.ListName()), g.chip.RevocationList(t, snptest.Until, g.chip.Intermediate.SerialNumber), 0o600); err != nil {
				t.Fatal(err)
			}
			o.AMD = snp.Dir(dir)
		}, step: StepRevocation, verdict: NotAuthentic},
		"a list older than the policy wants": {policy: func(s string) string { return s + "\n[freshness]\ncollateral = \"30d\"\n" }, options: func(o *Options) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, g.chip.ListName()), g.chip.RevocationList(t, snptest.Until), 0o600); err != nil {
				t.Fatal(err)
			}
			o.AMD = snp.Dir(dir)
		}, step: StepCollateral, verdict: NotTrusted},
		"a list that nobody signed": {options: func(o *Options) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, g.chip.ListName()), other.Leaf.Raw, 0o600); err != nil {
				t.Fatal(err)
			}
			o.AMD = snp.Dir(dir)
		}, step: StepCollateral, verdict: NotTrusted},
	} {
		opts, e, wanted := g.options(), g.seal(g.claims(idOne)), text
		if c.make != nil {
			e = c.make()
		}
		if c.policy != nil {
			wanted = c.policy(wanted)
		}
		opts.Policy = parsePolicy(t, wanted)
		if c.options != nil {
			c.options(&opts)
		}
		r := appraiseT(t, encode(t, e), opts)
		if r.Verdict != c.verdict || r.Step(c.step).Outcome != Fail || !strings.HasPrefix(r.Reason, c.step+":") {
			t.Errorf("%s: %s, %s; must be %s, by %s", name, r.Verdict, r.Reason, c.verdict, c.step)
		}
	}
}

// TestGuestRevocations: with AMD's list, nothing is left of what it says.
func TestGuestRevocations(t *testing.T) {
	g := newGuest(t)
	dir, opts := t.TempDir(), g.options()
	if err := os.WriteFile(filepath.Join(dir, g.chip.ListName()), g.chip.RevocationList(t, snptest.Until, big.NewInt(1)), 0o600); err != nil {
		t.Fatal(err)
	}
	opts.AMD = snp.Dir(dir)
	r := appraiseT(t, encode(t, g.seal(g.claims(idOne))), opts)
	if r.outcome(StepRevocation) != Pass || r.outcome(StepCollateral) != Pass || told(r, codes.Collateral) {
		t.Errorf("%+v, %+v", r.Step(StepCollateral), r.Step(StepRevocation))
	}
	opts.Policy = parsePolicy(t, guestText(t, r)+"\n[freshness]\ncollateral = \"365d\"\n")
	if r := appraiseT(t, encode(t, g.seal(g.claims(idOne))), opts); r.Verdict != Trusted {
		t.Errorf("with a list of half a year: %s, %s", r.Verdict, r.Reason)
	}
	opts.Policy = nil
	opts.AMD = snp.Dir(t.TempDir())
	if _, err := Appraise(t.Context(), encode(t, g.seal(g.claims(idOne))), opts); err == nil {
		t.Error("a folder without the list is no error")
	}
}

// TestEachPlatformIsItsOwn: evidence of one platform is never taken for another's, and a
// policy of one never trusts the other.
func TestEachPlatformIsItsOwn(t *testing.T) {
	g, w := newGuest(t), twoContainers(t)
	guest, td := g.seal(g.claims(idOne)), w.evidence(idOne)
	guestPolicy := parsePolicy(t, guestText(t, appraiseT(t, encode(t, guest), g.options())))
	tdPolicy := policyOf(t, appraiseT(t, encode(t, td), w.options()))
	roots := append(g.options().TrustRoots, w.roots()...)
	at := g.options().At

	for name, c := range map[string]struct {
		e *rpc.Evidence
		p *policy.Policy
	}{"a guest under a TD's policy": {guest, tdPolicy}, "a TD under a guest's policy": {td, guestPolicy}} {
		opts := Options{Nonce: testNonce, TrustRoots: roots, Policy: c.p}
		if c.e == guest {
			opts.At = at
		}
		r := appraiseT(t, encode(t, c.e), opts)
		if r.Verdict != NotTrusted || r.outcome(StepBootValues) != Fail {
			t.Errorf("%s: %s, %s", name, r.Verdict, r.Reason)
		}
	}
	for name, change := range map[string]func(e *rpc.Evidence){
		"called a TD":    func(e *rpc.Evidence) { e.TEE = "tdx" },
		"called Azure's": func(e *rpc.Evidence) { e.TEE = "azure-snp" },
		"a TD's quote":   func(e *rpc.Evidence) { e.Quote = td.Quote },
		"a TPM's quote":  func(e *rpc.Evidence) { e.Platform.TPMQuote = []byte{1} },
		"runtime data":   func(e *rpc.Evidence) { e.Platform.RuntimeData = []byte{1} },
		"PCRs":           func(e *rpc.Evidence) { e.Platform.PCRs = []byte{1} },
		"a boot log":     func(e *rpc.Evidence) { e.BootLog = td.BootLog },
		"a byte more":    func(e *rpc.Evidence) { e.Quote = append(e.Quote[:len(e.Quote):len(e.Quote)], 0) },
		"another leaf": func(e *rpc.Evidence) {
			e.Platform.Certificates = append(e.Platform.Certificates, e.Platform.Certificates[0])
		},
		"a TD's claims":      func(e *rpc.Evidence) { *e = *g.seal(w.claims(idOne)) },
		"a CCEL in claims":   func(e *rpc.Evidence) { c := g.claims(idOne); c.BootLogFormat = ""; *e = *g.seal(c) },
		"a TPM's log":        func(e *rpc.Evidence) { c := g.claims(idOne); c.BootLogFormat = "tpm"; *e = *g.seal(c) },
		"a register of RTMR": func(e *rpc.Evidence) { c := g.claims(idOne); c.Log.Anchor = "rtmr3"; *e = *g.seal(c) },
		"a register of PCR":  func(e *rpc.Evidence) { c := g.claims(idOne); c.Log.Anchor = "pcr"; *e = *g.seal(c) },
	} {
		e := g.seal(g.claims(idOne))
		change(e)
		opts := g.options()
		opts.TrustRoots, opts.Policy = roots, guestPolicy
		if r := appraiseT(t, encode(t, e), opts); r.Verdict != Malformed {
			t.Errorf("a guest, %s: %s, %s", name, r.Verdict, r.Reason)
		}
	}
	for name, change := range map[string]func(e *rpc.Evidence){
		"called a guest":   func(e *rpc.Evidence) { e.TEE = "snp" },
		"a guest's report": func(e *rpc.Evidence) { e.Quote = guest.Quote },
		"certificates":     func(e *rpc.Evidence) { e.Platform.Certificates = g.chip.Certificates() },
		"no boot log": func(e *rpc.Evidence) {
			c := w.claims(idOne)
			c.BootLogFormat = "none"
			*e = *w.seal(c, w.key)
		},
	} {
		e := w.evidence(idOne)
		change(e)
		opts := w.options()
		opts.TrustRoots, opts.Policy = roots, tdPolicy
		if r := appraiseT(t, encode(t, e), opts); r.Verdict != Malformed {
			t.Errorf("a TD, %s: %s, %s", name, r.Verdict, r.Reason)
		}
	}
}

// TestPolicyOfOnePlatform: a policy that is made of both would trust each less than it says.
func TestPolicyOfOnePlatform(t *testing.T) {
	g, w := newGuest(t), twoContainers(t)
	a, b := appraiseT(t, encode(t, g.seal(g.claims(idOne))), g.options()), appraiseT(t, encode(t, w.evidence(idOne)), w.options())
	if _, _, err := InitPolicy([]*Result{a, b}, nil); err == nil || !strings.Contains(err.Error(), "of one platform") {
		t.Error(err)
	}
}
