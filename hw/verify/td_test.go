package verify

import (
	"bytes"
	"strings"
	"testing"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// TestMigratable: the host chooses the migration TD of a TD that can be
// migrated, and the migration TD gets the keys to its memory.
func TestMigratable(t *testing.T) {
	known, other := hw.Digest(bytes.Repeat([]byte{7}, 48)), rpc.Digest{1}
	for name, c := range map[string]struct {
		config sim.Config
		td     policy.TD // the policy that accepts it
	}{
		"1.0":            {sim.Config{Migratable: true}, policy.TD{AllowMigratable: true}},
		"1.5, unbound":   {sim.Config{Migratable: true, QuoteVersion: 5}, policy.TD{AllowMigratable: true}},
		"1.5, bound":     {sim.Config{Migratable: true, QuoteVersion: 5, ServiceTD: known}, policy.TD{ServiceTDs: []rpc.Digest{other, known}}},
		"1.5, any bound": {sim.Config{Migratable: true, QuoteVersion: 5, ServiceTD: known}, policy.TD{AllowMigratable: true}},
		"service alone":  {sim.Config{QuoteVersion: 5, ServiceTD: known}, policy.TD{ServiceTDs: []rpc.Digest{known}}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, c.config)
			w.launch(idOne, "one", "/bin/one")
			bundle, opts := encode(t, w.evidence(idOne)), w.options()
			expect(t, appraiseT(t, bundle, opts), NotAuthentic, StepDebug)
			for _, p := range []policy.TD{{AllowDebug: true}, {ServiceTDs: []rpc.Digest{other}}, {ServiceTDs: []rpc.Digest{{}}}} {
				opts.Policy = &policy.Policy{TD: p}
				expect(t, appraiseT(t, bundle, opts), NotAuthentic, StepDebug)
			}
			opts.Policy = &policy.Policy{TD: c.td, Agent: policy.Agent{Anchors: []string{logs.AnchorRTMR3}}}
			first := appraiseT(t, bundle, opts)
			expect(t, first, NotTrusted)
			if says := strings.Contains(strings.Join(first.NotProved, "\n"), "a migration TD of its host's choice"); says != c.td.AllowMigratable {
				t.Errorf("not proved: %q", first.NotProved)
			}
			opts.Policy = policyOf(t, first) // knows the service TD, if there is one
			if opts.Policy.TD.AllowMigratable != (c.config.ServiceTD == hw.Digest{}) {
				t.Errorf("the policy made: %+v", opts.Policy.TD)
			}
			expect(t, appraiseT(t, bundle, opts), Trusted)
		})
	}
	w := newWorld(t, sim.Config{Migratable: true})
	r := appraiseFiles(t, w.files(hw.ReportData{}), Options{TrustRoots: w.roots()})
	expect(t, r, Authentic) // as for debug: the quote itself shows it
	if s := r.Step(StepDebug); s.Outcome != Warn || !strings.Contains(strings.Join(r.NotProved, "\n"), "the host keeps out") {
		t.Errorf("bare: %+v, not proved %q", s, r.NotProved)
	}
}

func TestDebug(t *testing.T) {
	w := newWorld(t, sim.Config{Debug: true})
	w.launch(idOne, "one", "/bin/one")
	bundle, opts := encode(t, w.evidence(idOne)), w.options()
	expect(t, appraiseT(t, bundle, opts), NotAuthentic, StepDebug)
	opts.Policy = &policy.Policy{TD: policy.TD{AllowDebug: true}}
	r := appraiseT(t, bundle, opts)
	if s := r.Step(StepDebug); s.Outcome != Warn {
		t.Errorf("allowed by policy: %+v", s)
	}
}
