package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/hw/verify/replay"
	tdxtesting "github.com/google/go-tdx-guest/testing"
	"github.com/google/go-tdx-guest/testing/testdata"
)

// recorded is Intel's service as go-tdx-guest recorded its answers.
func recorded(t *testing.T) dcap.PCS {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := "https://api.trustedservices.intel.com"
		if strings.HasSuffix(r.URL.Path, ".der") {
			host = "https://certificates.trustedservices.intel.com"
		}
		answer, ok := tdxtesting.TestGetter.Responses[host+r.URL.String()]
		if !ok {
			http.NotFound(w, r)
			return
		}
		for name, values := range answer.Header {
			w.Header()[name] = values
		}
		w.Write(answer.Body)
	}))
	t.Cleanup(server.Close)
	return dcap.PCS{API: server.URL, Certificates: server.URL, Client: server.Client()}
}

func TestRecordedCollateral(t *testing.T) {
	pcs := recorded(t)
	for name, c := range map[string]struct {
		quote []byte
		at    time.Time
		fails []string
		says  string // step tcb does
	}{
		// Its TDX module is a step below the oldest level of that year.
		"v4":           {testdata.RawQuote, time.Date(2023, 7, 1, 1, 0, 0, 0, time.UTC), []string{StepTCB}, "no TCB level as low as this platform's (FMSPC 50806f000000)"},
		"v4, too late": {testdata.RawQuote, time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC), []string{StepCollateral}, "no usable"},
		"v5":           {testdata.RawQuoteV5, time.Date(2026, 2, 3, 1, 0, 0, 0, time.UTC), nil, ""},
	} {
		r, err := AppraiseQuote(context.Background(), replay.Files{Quote: c.quote}, Options{Collateral: pcs, At: c.at})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if name == "v5" { // the module kept no signing certificate of that year
			if s := r.Step(StepCollateral); s.Outcome != Fail || !strings.Contains(s.Detail, "is after 2025-05-21") {
				t.Errorf("v5: %+v", s)
			}
			continue
		}
		expect(t, r, NotTrusted, c.fails...)
		if s := r.Step(StepTCB); !strings.Contains(s.Detail, c.says) {
			t.Errorf("%s: %+v", name, s)
		}
		if name == "v4" && (r.Step(StepRevocation).Outcome != Pass || r.Step(StepEnclave).Outcome != Pass || r.Step(StepCollateral).Outcome != Pass) {
			t.Errorf("%s: %+v", name, r.Steps)
		}
	}
}

// TestNetworkErrors: a service that can't be asked is no result.
func TestNetworkErrors(t *testing.T) {
	answers := map[string]http.HandlerFunc{
		"down":      func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"no chain":  func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("{}")) },
		"too large": func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, 4<<20+1)) },
		"loose chain": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("TCB-Info-Issuer-Chain", "%zz")
		},
	}
	for name, handler := range answers {
		server := httptest.NewServer(handler)
		_, err := AppraiseQuote(context.Background(), replay.Files{Quote: testdata.RawQuote},
			Options{Collateral: dcap.PCS{API: server.URL, Certificates: server.URL}, At: whenMade})
		server.Close()
		var network *dcap.NetworkError
		if !errors.As(err, &network) || !strings.Contains(err.Error(), server.URL) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Evidence that isn't authentic asks nobody.
	w := twoContainers(t)
	opts := w.options()
	opts.TrustRoots, opts.Collateral = nil, dcap.PCS{API: "http://127.0.0.1:1"}
	r := appraiseT(t, encode(t, w.evidence(idOne)), opts)
	expect(t, r, NotAuthentic, StepQuote)
}

func TestCollateralDir(t *testing.T) {
	dir := t.TempDir()
	pcs := recorded(t)
	for doc, c := range map[dcap.Document]struct{ of, file string }{
		dcap.TCBInfo: {"50806f000000", "tcb-50806f000000.json"}, dcap.QEIdentity: {"", "qe-identity.json"},
		dcap.PCKCRL: {"platform", "pck-crl-platform.der"}, dcap.RootCRL: {"", "root-crl.der"},
	} {
		body, chain, err := pcs.Get(context.Background(), doc, c.of)
		if err != nil {
			t.Fatal(err)
		}
		if doc == dcap.QEIdentity { // as the service's header has it
			chain = []byte(url.QueryEscape(string(chain)) + "\n")
		}
		for name, b := range map[string][]byte{c.file: body, c.file + ".chain": chain} {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	opts := Options{Collateral: dcap.Dir(dir), At: time.Date(2023, 7, 1, 1, 0, 0, 0, time.UTC)}
	r, err := AppraiseQuote(context.Background(), replay.Files{Quote: testdata.RawQuote}, opts)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, r, NotTrusted, StepTCB)
	if r.Step(StepRevocation).Outcome != Pass || r.Step(StepCollateral).Outcome != Pass {
		t.Errorf("%+v", r.Steps)
	}
	os.Remove(filepath.Join(dir, "root-crl.der"))
	var network *dcap.NetworkError
	if _, err := AppraiseQuote(context.Background(), replay.Files{Quote: testdata.RawQuote}, opts); err == nil ||
		errors.As(err, &network) || !strings.Contains(err.Error(), "root-crl.der") {
		t.Errorf("a document is missing: %v", err)
	}
}

// TestPolicyWithoutCollateral: what the policy asks must have been looked at.
func TestPolicyWithoutCollateral(t *testing.T) {
	w := twoContainers(t)
	bundle, opts := encode(t, w.evidence(idOne)), w.options()
	opts.Policy = policyOf(t, appraiseT(t, bundle, opts))
	for _, c := range []struct {
		rules policy.TCB
		fits  bool
	}{
		{policy.TCB{}, true}, {policy.TCB{MinSVN: []byte{3, 0, 5}}, true}, {policy.TCB{MinSVN: []byte{3, 1}}, false},
		{policy.TCB{Statuses: []string{"UpToDate"}}, false}, {policy.TCB{MinDate: "2020-01-01"}, false},
	} {
		opts.Policy.TCB = &c.rules
		if r := appraiseT(t, bundle, opts); c.fits {
			expect(t, r, Trusted)
		} else {
			expect(t, r, NotTrusted, StepTCB)
		}
	}
	for _, text := range []string{"statuses = [\"Revoked\"]", "statuses = [\"uptodate\"]", "min_date = \"soon\"", "min_svn = \"0\"",
		"min_svn = \"" + strings.Repeat("00", 17) + "\"", "max_date = \"2020-01-01\""} {
		if p, err := policy.Parse([]byte("[tcb]\n" + text)); err == nil {
			t.Errorf("%s: taken: %+v", text, p.TCB)
		}
	}
	p, err := policy.Parse([]byte("[tcb]\nstatuses = [\"OutOfDate\"]\nmin_date = \"2025-08-13\"\nmin_svn = \"0300\""))
	if err != nil || len(p.TCB.MinSVN) != 2 || p.TCB.MinSVN[0] != 3 {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestTDXModuleIdentity: modules from 1.5 on are judged by an identity of
// their own (tee_tcb_svn[1] is its version, [0] its SVN).
func TestTDXModuleIdentity(t *testing.T) {
	for name, c := range map[string]struct {
		id, isvsvn string
		status     string
		failed     []string
	}{
		"known":              {"TDX_01", "3", "UpToDate", nil},
		"out of date":        {"TDX_01", "3", "OutOfDate", []string{StepTCB}},
		"below all levels":   {"TDX_01", "4", "UpToDate", []string{StepTCB}},
		"unknown":            {"TDX_02", "3", "UpToDate", []string{StepEnclave, StepTCB}},
		"another's":          {"TDX_01", "3", "UpToDate", []string{StepEnclave}},
		"lower than level 0": {"TDX_01", "1", "UpToDate", nil},
	} {
		s, _ := newService(t)
		s.quote.TCBSVN[1] = 1
		signer := strings.Repeat("00", 48)
		if name == "another's" {
			signer = strings.Repeat("ab", 48)
		}
		s.module()["mrsigner"] = strings.Repeat("cd", 48) // that of 1.0 doesn't count then
		s.raise("tdxtcbcomponents", 0)                    // nor do the first two components
		s.tcb["tdxModuleIdentities"] = []any{json.RawMessage(fmt.Sprintf(`{"id":%q,"mrsigner":%q,"attributes":"0000000000000000",
			"attributesMask":"FFFFFFFFFFFFFFFF","tcbLevels":[{"tcb":{"isvsvn":%s},"tcbDate":"2025-01-01T00:00:00Z","tcbStatus":%q}]}`, c.id, signer, c.isvsvn, c.status))}
		verdict := Trusted
		if len(c.failed) > 0 {
			verdict = NotTrusted
			if c.failed[0] == StepEnclave {
				verdict = NotAuthentic
			}
		}
		r := s.appraise(t, nil)
		t.Run(name, func(t *testing.T) { expect(t, r, verdict, c.failed...) })
		if c.failed == nil && !strings.HasPrefix(r.TCB.Date, "2025-01-01") {
			t.Errorf("%s: the date of the older part counts: %+v", name, r.TCB)
		}
	}
}
