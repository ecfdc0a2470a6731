package verify

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/replay"
)

var public = flag.String("testdata", "", "`DIR` of the project's testdata, which is not part of the tree")

// azureCollateral are Intel's documents of 2026-03-16 on the platform of an Azure VM, as others keep them.
type azureCollateral struct{ dir string }

func (c azureCollateral) Get(_ context.Context, doc dcap.Document, of string) (body, chain []byte, err error) {
	names := map[dcap.Document][2]string{
		dcap.TCBInfo:    {"tcb_info_" + of + ".json", "tcb_signing_chain.pem"},
		dcap.QEIdentity: {"td_qe_identity.json", "qe_identity_signing_chain.pem"},
		dcap.PCKCRL:     {"pck_crl_" + of + ".der", "pck_crl_chain.pem"},
		dcap.RootCRL:    {"root_ca_crl.der", ""},
	}[doc]
	if body, err = os.ReadFile(filepath.Join(c.dir, names[0])); err == nil && names[1] != "" {
		chain, err = os.ReadFile(filepath.Join(c.dir, names[1]))
	}
	return body, chain, err
}

// TestAzureFixtures: the real quote of a TD of Azure's, with Intel's documents of its time: its verdict then, and when
// the documents are out of date; and a quote of another whose TD is under debug.
func TestAzureFixtures(t *testing.T) {
	if *public == "" {
		return // only with -args -testdata DIR: CONTRIBUTING.md
	}
	dir := filepath.Join(*public, "platforms")
	for _, c := range []struct {
		quote, at string
		documents bool
		verdict   Verdict
		steps     map[string]string // outcome, and what it says
	}{
		{"attestation-rs/az_tdx/live-td-quote.bin", "2026-03-20", true, Authentic, map[string]string{StepQuote: "pass", StepCollateral: "pass", StepTCB: "pass: UpToDate", StepRevocation: "pass"}},
		{"attestation-rs/az_tdx/live-td-quote.bin", "2026-11-29", true, NotTrusted, map[string]string{StepQuote: "pass", StepCollateral: "fail"}},
		{"attestation-rs/az_tdx/td-quote.bin", "2026-03-20", false, Authentic, map[string]string{StepQuote: "pass", StepTCB: "skip"}},
		{"trustee/tdx_quote_4.dat", "2026-03-20", false, Authentic, map[string]string{StepQuote: "pass", StepDebug: "warn: the TD is under debug"}}, // a policy refuses it
	} {
		raw, err := os.ReadFile(filepath.Join(dir, c.quote))
		if err != nil {
			t.Fatal(err)
		}
		_, behind, err := dcap.CutQuote(raw)
		if err != nil {
			t.Fatal(err)
		}
		at, err := time.Parse(time.DateOnly, c.at)
		if err != nil {
			t.Fatal(err)
		}
		opts := Options{At: at}
		if c.documents {
			opts.Collateral = azureCollateral{filepath.Join(dir, "attestation-rs/collateral")}
		}
		a, err := NewAppraiser(opts)
		if err != nil {
			t.Fatal(err)
		}
		r, err := a.AppraiseQuote(t.Context(), replay.Files{Quote: raw[:len(raw)-behind]}, Asked{})
		if err != nil {
			t.Fatal(err)
		}
		var said []string
		for _, s := range r.Steps {
			said = append(said, fmt.Sprintf("%s: %s: %s", s.Name, s.Outcome, s.Detail))
		}
		for name, want := range c.steps {
			if s := r.Step(name); !strings.HasPrefix(string(s.Outcome)+": "+s.Detail, want) {
				t.Errorf("%s at %s: %s: %s: %s; must be %s", c.quote, c.at, name, s.Outcome, s.Detail, want)
			}
		}
		if r.Verdict != c.verdict {
			t.Errorf("%s at %s: %s, must be %s", c.quote, c.at, r.Verdict, c.verdict)
		}
		t.Logf("%s at %s: %s\n\t%s", c.quote, c.at, r.Verdict, strings.Join(said, "\n\t"))
	}
}
