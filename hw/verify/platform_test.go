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

// recorded is Intel's service, as go-tdx-guest recorded its answers.
func recorded(t testing.TB) dcap.PCS {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from := "https://api.trustedservices.intel.com" + r.URL.String()
		if r.URL.Path == "/sgx/certification/v4/rootcacrl" { // a PCCS has it there
			from = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
		}
		answer, ok := tdxtesting.TestGetter.Responses[from]
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
	return dcap.PCS{API: server.URL, Client: server.Client()}
}

func TestRecordedCollateral(t *testing.T) {
	pcs := recorded(t)
	for name, c := range map[string]struct {
		quote []byte
		at    time.Time
		fails []string
		says  string // the detail of step tcb
	}{
		// its TDX module is one level below the oldest level of that year
		"v4":           {testdata.RawQuote, time.Date(2023, 7, 1, 1, 0, 0, 0, time.UTC), []string{StepTCB}, "no TCB level as low as this platform's (FMSPC 50806f000000)"},
		"v4, too late": {testdata.RawQuote, time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC), []string{StepCollateral}, "no usable"},
		"v5":           {testdata.RawQuoteV5, time.Date(2026, 2, 3, 1, 0, 0, 0, time.UTC), nil, ""},
	} {
		r, err := AppraiseQuote(context.Background(), replay.Files{Quote: c.quote}, Options{Collateral: pcs, At: c.at})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if name == "v5" { // the module has no signing certificate of that year
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

// TestNetworkErrors: a service that can't be reached gives no result.
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
			Options{Collateral: dcap.PCS{API: server.URL}, At: whenMade})
		server.Close()
		var network *dcap.NetworkError
		if !errors.As(err, &network) || !strings.Contains(err.Error(), server.URL) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Evidence that isn't authentic causes no request.
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

// TestPolicyWithoutCollateral: a requirement of the policy needs the collateral
// that shows it.
func TestPolicyWithoutCollateral(t *testing.T) {
	w := twoContainers(t)
	bundle, opts := encode(t, w.evidence(idOne)), w.options()
	made := textOf(t, appraiseT(t, bundle, opts))
	for _, c := range []struct {
		rules, waived, failed string
	}{
		{"", `"collateral",`, ""}, {"", "", StepNotProved}, {"min_svn = \"030005\"", `"collateral",`, ""}, {"min_svn = \"0301\"", `"collateral",`, StepTCB},
		{"statuses = \"UpToDate\"", "", StepNotProved}, {"min_date = 2020-01-01", "", StepNotProved},
	} {
		opts.Policy = parsePolicy(t, replaced(t, made, `"collateral",`, c.waived)+"[tcb]\n"+c.rules)
		if r := appraiseT(t, bundle, opts); c.failed == "" {
			expect(t, r, Trusted)
		} else {
			expect(t, r, NotTrusted, c.failed)
		}
	}
	for _, text := range []string{"statuses = [\"Revoked\"]", "statuses = [\"uptodate\"]", "min_date = \"soon\"", "min_svn = \"0\"",
		"min_svn = \"" + strings.Repeat("00", 17) + "\"", "max_date = \"2020-01-01\"", "grace = \"1\"", "grace = \"1d\"\nstatuses = \"OutOfDate\"", "min_evaluation = -1"} {
		if _, err := policy.Parse("p", []byte("cima_policy = 2\n[tcb]\n"+text)); err == nil {
			t.Errorf("%s: accepted", text)
		}
	}
}

// TestTDXModuleIdentity: modules from 1.5 on are judged by an identity of their
// own (tee_tcb_svn[1] is the version, [0] the SVN).
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
		s.module()["mrsigner"] = strings.Repeat("cd", 48) // then 1.0's signer doesn't count
		s.raise("tdxtcbcomponents", 0)                    // and neither do the first two components
		s.tcb["tdxModuleIdentities"] = []any{json.RawMessage(fmt.Sprintf(`{"id":%q,"mrsigner":%q,"attributes":"0000000000000000",
			"attributesMask":"FFFFFFFFFFFFFFFF","tcbLevels":[{"tcb":{"isvsvn":%s},"tcbDate":"2025-01-01T00:00:00Z","tcbStatus":%q}]}`, c.id, signer, c.isvsvn, c.status))}
		verdict := Trusted
		if len(c.failed) > 0 {
			verdict = NotTrusted
			if c.failed[0] == StepEnclave {
				verdict = NotAuthentic
			}
		}
		r := s.appraise(t, "")
		t.Run(name, func(t *testing.T) { expect(t, r, verdict, c.failed...) })
		if c.failed == nil && !strings.HasPrefix(r.TCB.Date, "2025-01-01") {
			t.Errorf("%s: the date of the older part counts: %+v", name, r.TCB)
		}
	}
}

// TestEnclaveWithoutCollateral: the identities of Intel's own enclaves are
// built in. A simulated TD's enclave counts under its own root only.
func TestEnclaveWithoutCollateral(t *testing.T) {
	for name, raw := range map[string][]byte{"v4": testdata.RawQuote, "v5": testdata.RawQuoteV5} {
		r := appraiseFiles(t, replay.Files{Quote: raw}, Options{At: whenMade})
		expect(t, r, Authentic)
		if s := r.Step(StepEnclave); s.Outcome != Pass || len(s.Compared) != 6 {
			t.Errorf("%s: %+v", name, s)
		}
	}
	if s := intels([]dcap.Finding{{What: "ISVPRODID", Want: "2", Got: "1"}}, "fine"); s.Outcome != Fail || s.Detail != "not Intel's: ISVPRODID is 1" {
		t.Errorf("another enclave: %+v", s)
	}
	w := twoContainers(t)
	r := appraiseT(t, encode(t, w.evidence(idOne)), w.options())
	expect(t, r, NotTrusted)
	if s := r.Step(StepEnclave); s.Outcome != Skip {
		t.Errorf("of a simulated TD: %+v", s)
	}
}

func TestPlatformStates(t *testing.T) {
	const outOfDate = "statuses = [\"UpToDate\", \"OutOfDate\"]"
	for name, c := range map[string]struct {
		change  func(*service)
		policy  string
		verdict Verdict
		failed  []string
		says    string
	}{
		"as it should be":                    {func(*service) {}, "", Trusted, nil, ""},
		"out of date":                        {func(s *service) { s.setStatus("OutOfDate") }, "", NotTrusted, []string{StepTCB}, "OutOfDate, of 2026-01-01: INTEL-SA-00001"},
		"out of date, allowed":               {func(s *service) { s.setStatus("OutOfDate") }, outOfDate, Trusted, nil, "the policy allows it"},
		"hardening needed":                   {func(s *service) { s.setStatus("SWHardeningNeeded") }, outOfDate, NotTrusted, []string{StepTCB}, "SWHardeningNeeded"},
		"level revoked, and \"allowed\"":     {func(s *service) { s.setStatus("Revoked") }, outOfDate, NotAuthentic, []string{StepTCB, StepRevocation}, "Revoked"},
		"before the policy's date":           {func(*service) {}, "min_date = 2026-01-02", NotTrusted, []string{StepTCB}, "TCB date is 2026-01-01"},
		"at the policy's date":               {func(*service) {}, "min_date = 2026-01-01", Trusted, nil, ""},
		"before, but for the zone":           {func(*service) {}, "min_date = 2025-12-31T23:00:00-02:00", NotTrusted, []string{StepTCB}, "TCB date is 2026-01-01"},
		"at it, in a zone":                   {func(*service) {}, "min_date = 2026-01-01T02:00:00+02:00", Trusted, nil, ""},
		"below the policy's SVN":             {func(*service) {}, "min_svn = \"04\"", NotTrusted, []string{StepTCB}, "min_svn"},
		"at the policy's SVN":                {func(*service) {}, "min_svn = \"030005\"", Trusted, nil, ""},
		"enclave out of date":                {func(s *service) { s.setQE("OutOfDate", 0) }, "", NotTrusted, []string{StepTCB}, "OutOfDate"},
		"enclave, and configuration":         {func(s *service) { s.setQE("OutOfDate", 0); s.setStatus("ConfigurationNeeded") }, "", NotTrusted, []string{StepTCB}, "OutOfDateConfigurationNeeded"},
		"enclave revoked":                    {func(s *service) { s.setQE("Revoked", 0) }, "", NotAuthentic, []string{StepTCB, StepRevocation}, "Revoked"},
		"level revoked, enclave out of date": {func(s *service) { s.setQE("OutOfDate", 0); s.setStatus("Revoked") }, "", NotAuthentic, []string{StepTCB, StepRevocation}, "Revoked"},
		"enclave below all levels":           {func(s *service) { s.setQE("UpToDate", 1000) }, "", NotTrusted, []string{StepTCB}, "quoting enclave"},
		"platform below all levels":          {func(s *service) { s.raise("sgxtcbcomponents", 0) }, "", NotTrusted, []string{StepTCB}, "no TCB level as low"},
		"module below all levels":            {func(s *service) { s.raise("tdxtcbcomponents", 2) }, "", NotTrusted, []string{StepTCB}, "no TCB level as low"},
		"PCE below all levels":               {func(s *service) { s.tcbOf()["pcesvn"] = 60000 }, "", NotTrusted, []string{StepTCB}, "no TCB level as low"},
		"another's quoting enclave":          {func(s *service) { s.qe["mrsigner"] = strings.Repeat("ab", 32) }, "", NotAuthentic, []string{StepEnclave}, ""},
		"another enclave of the signer's":    {func(s *service) { s.qe["isvprodid"] = 1 }, "", NotAuthentic, []string{StepEnclave}, ""},
		"enclave of other attributes":        {func(s *service) { s.qe["attributes"] = strings.Repeat("00", 16) }, "", NotAuthentic, []string{StepEnclave}, ""},
		"enclave of other MISCSELECT":        {func(s *service) { s.qe["miscselect"] = "00000001" }, "", NotAuthentic, []string{StepEnclave}, ""},
		"another's TDX module":               {func(s *service) { s.module()["mrsigner"] = strings.Repeat("ab", 48) }, "", NotAuthentic, []string{StepEnclave}, ""},
		"TDX module of other attributes":     {func(s *service) { s.module()["attributes"] = "0100000000000000" }, "", NotAuthentic, []string{StepEnclave}, ""},
		"PCK revoked":                        {func(s *service) { s.revokePCK = true }, "", NotAuthentic, []string{StepRevocation}, ""},
		"signer revoked":                     {func(s *service) { s.revokeSigner = true }, "", NotAuthentic, []string{StepRevocation}, ""},
		"old":                                {func(s *service) { s.until = time.Now().Add(-time.Minute) }, "", NotTrusted, []string{StepCollateral}, ""},
		"of the future":                      {func(s *service) { s.from = time.Now().Add(time.Minute) }, "", NotTrusted, []string{StepCollateral}, ""},
		"TCB info not signed":                {func(s *service) { s.spoil = dcap.TCBInfo }, "", NotTrusted, []string{StepCollateral}, ""},
		"QE identity not signed":             {func(s *service) { s.spoil = dcap.QEIdentity }, "", NotTrusted, []string{StepCollateral}, ""},
		"another root":                       {func(s *service) { s.wrongRoot = true }, "", NotTrusted, []string{StepCollateral}, ""},
		"signed by a platform":               {func(s *service) { s.signerName = "Intel SGX PCK Certificate" }, "", NotTrusted, []string{StepCollateral}, ""},
		"of SGX":                             {func(s *service) { s.tcb["id"] = "SGX" }, "", NotTrusted, []string{StepCollateral}, ""},
		"of the SGX enclave":                 {func(s *service) { s.qe["id"] = "QE" }, "", NotTrusted, []string{StepCollateral}, ""},
		"of other platforms":                 {func(s *service) { s.tcb["fmspc"] = "000000000000" }, "", NotTrusted, []string{StepCollateral}, ""},
		"wanted, and of no use":              {func(s *service) { s.spoil = dcap.TCBInfo }, outOfDate, NotTrusted, []string{StepCollateral}, "no usable collateral"},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := newService(t)
			c.change(s)
			r := s.appraise(t, c.policy)
			expect(t, r, c.verdict, c.failed...)
			if got := r.Step(StepTCB).Detail; !strings.Contains(got, c.says) {
				t.Errorf("step tcb is %q, must be %q", got, c.says)
			}
		})
	}
}

// TestRulesOfOnePlatform: [[tcb.platform]] counts for the platform of the quote, and for no other.
func TestRulesOfOnePlatform(t *testing.T) {
	s, _ := newService(t)
	s.setStatus("SWHardeningNeeded")
	platform, err := s.quote.Certified()
	if err != nil {
		t.Fatal(err)
	}
	rules := "[[tcb.platform]]\nstatuses = [\"SWHardeningNeeded\"]\nprovider_ids = "
	expect(t, s.appraise(t, rules+`"`+platform.Provider+`"`), Trusted)
	expect(t, s.appraise(t, rules+`"`+strings.Repeat("0f", 16)+`"`), NotTrusted, StepTCB)
}
