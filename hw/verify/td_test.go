package verify

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-tdx-guest/testing/testdata"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/rpc"
)

// TestMigratable: the host chooses the migration TD of a TD that can be
// migrated, and the migration TD gets the keys to its memory.
func TestMigratable(t *testing.T) {
	known, other := hw.Digest(bytes.Repeat([]byte{7}, 48)), rpc.Digest{1}
	const migratable = "attributes = [\"sept-ve-disable\", \"migratable\"]\n"
	for name, c := range map[string]struct {
		config sim.Config
		td     string // the policy that accepts it
		told   bool   // that the host can read it
	}{
		"1.0":            {sim.Config{Migratable: true}, migratable + "service_tds = \"any\"\n", true},
		"1.5, unbound":   {sim.Config{Migratable: true, QuoteVersion: 5}, migratable + "service_tds = \"any\"\n", true},
		"1.5, bound":     {sim.Config{Migratable: true, QuoteVersion: 5, ServiceTD: known}, migratable + "service_tds = [\"" + other.String() + "\", \"" + known.String() + "\"]\n", false},
		"1.5, any bound": {sim.Config{Migratable: true, QuoteVersion: 5, ServiceTD: known}, migratable + "service_tds = \"any\"\n", false},
		"service alone":  {sim.Config{QuoteVersion: 5, ServiceTD: known}, "service_tds = \"" + known.String() + "\"\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, c.config)
			w.launch(idOne, "one", "/bin/one")
			bundle, opts := encode(t, w.evidence(idOne)), w.options()
			expect(t, appraiseT(t, bundle, opts), NotAuthentic, StepDebug)
			for _, td := range []string{"", "attributes = [\"debug\"]", "service_tds = \"" + other.String() + "\""} {
				opts.Policy = parsePolicy(t, "cima_policy = 2\n[td]\n"+td)
				expect(t, appraiseT(t, bundle, opts), NotAuthentic, StepDebug)
			}
			opts.Policy = parsePolicy(t, "cima_policy = 2\n[td]\n"+c.td)
			first := appraiseT(t, bundle, opts)
			expect(t, first, NotTrusted, StepNotProved)
			made := textOf(t, first)
			if any := strings.Contains(made, "service_tds = [\"any\"]"); any != (c.config.ServiceTD == hw.Digest{}) {
				t.Errorf("the policy made:\n%s", made)
			}
			opts.Policy = parsePolicy(t, made) // knows the service TD, if there is one
			r := appraiseT(t, bundle, opts)
			expect(t, r, Trusted)
			if !strings.Contains(texts(r.NotProved), "it has a service TD") {
				t.Errorf("not proved: %+v", r.NotProved)
			}
		})
	}
	w := newWorld(t, sim.Config{Migratable: true})
	r := appraiseFiles(t, w.files(hw.ReportData{}), Options{TrustRoots: w.roots()})
	expect(t, r, Authentic) // as for debug: the quote itself shows it
	if s := r.Step(StepDebug); s.Outcome != Warn || !strings.Contains(texts(r.NotProved), "the host keeps out") {
		t.Errorf("bare: %+v, not proved %+v", s, r.NotProved)
	}
}

func TestDebug(t *testing.T) {
	w := newWorld(t, sim.Config{Debug: true})
	w.launch(idOne, "one", "/bin/one")
	bundle, opts := encode(t, w.evidence(idOne)), w.options()
	expect(t, appraiseT(t, bundle, opts), NotAuthentic, StepDebug)
	opts.Policy = parsePolicy(t, "cima_policy = 2\n[td]\nattributes = [\"debug\", \"sept-ve-disable\"]\n")
	r := appraiseT(t, bundle, opts)
	if s := r.Step(StepDebug); s.Outcome != Warn || !strings.Contains(texts(r.NotProved), "the host keeps out") {
		t.Errorf("allowed by policy: %+v", s)
	}
}

// TEE_TCB_SVN_2, of the module that runs now, is in bodies of TDX 1.5; the quote signs it,
// and min_svn is about it too.
func TestSVNOfTheModuleThatRuns(t *testing.T) {
	const svn2At = 54 + 584 // behind the body of TDX 1.0
	w := newWorld(t, sim.Config{QuoteVersion: 5})
	w.launch(idOne, "one", "/bin/one")
	e, opts := w.evidence(idOne), w.options()
	made := textOf(t, appraiseT(t, encode(t, e), opts))
	for rules, verdict := range map[string]Verdict{"min_svn = \"030005\"": Trusted, "min_svn = \"030006\"": NotTrusted} {
		opts.Policy = parsePolicy(t, made+"[tcb]\n"+rules)
		if r := appraiseT(t, encode(t, e), opts); r.Verdict != verdict {
			t.Errorf("%s: %s, %s", rules, r.Verdict, r.Reason)
		}
	}
	q, err := dcap.ParseQuote(e.Quote)
	if err != nil || q.TCBSVN2 == nil || *q.TCBSVN2 != q.TCBSVN || len(q.SVNs()) != 2 {
		t.Fatalf("%v, %v", q.TCBSVN2, err)
	}
	e.Quote[svn2At] = 2
	if q, err = dcap.ParseQuote(e.Quote); err != nil || q.TCBSVN2[0] != 2 {
		t.Fatal(err)
	}
	opts.Policy = nil
	expect(t, appraiseT(t, rawEncode(t, e), opts), NotAuthentic, StepQuote)
	var f findings
	f.add(parsePolicy(t, made+"[tcb]\nmin_svn = \"03\"").Platform().JudgeSVN(q.SVNs()...))
	if len(f.wrong) != 1 || !strings.Contains(f.wrong[0], "TEE_TCB_SVN_2") {
		t.Errorf("%q", f.wrong)
	}
	real, err := dcap.ParseQuote(cut(t, testdata.RawQuoteV5))
	if err != nil || real.TCBSVN2 == nil || *real.TCBSVN2 == ([16]byte{}) {
		t.Errorf("of a real quote: %v, %v", real.TCBSVN2, err)
	}
	if v4, err := dcap.ParseQuote(cut(t, testdata.RawQuote)); err != nil || v4.TCBSVN2 != nil {
		t.Errorf("of a quote of version 4: %v, %v", v4.TCBSVN2, err)
	}
}
