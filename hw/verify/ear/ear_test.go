package ear

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json/v2"
	"errors"
	"maps"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/codes"
	"github.com/cima-project/cima/hw/verify/verifytest"
)

type token struct {
	Verdict string `json:"cima_verdict"`
	Launch  string `json:"cima_launch_digest"`
	Nonce   string `json:"eat_nonce"`
	Profile string `json:"eat_profile"`
	Submods map[string]struct {
		Status   string         `json:"ear.status"`
		Vector   map[string]int `json:"ear.trustworthiness-vector"`
		Policy   string         `json:"ear.appraisal-policy-id"`
		Evidence *struct {
			Runtime map[string]map[string]string `json:"runtime_data_claims"`
		} `json:"ear.veraison.annotated-evidence"`
	} `json:"submods"`
}

func read(t *testing.T, r *verify.Result) token {
	t.Helper()
	text, err := Claims(r, Options{Profile: Veraison, Issuer: "tests", Now: time.Unix(1e9, 0)})
	if err != nil {
		t.Fatal(err)
	}
	var k token
	if err := json.Unmarshal(text, &k); err != nil {
		t.Fatal(err)
	}
	return k
}

// Evidence that is trusted is affirmed, of the container that it is of, with its key; the
// same of another container, or without a policy, is not, and has neither.
func TestWhatATokenSays(t *testing.T) {
	a := verifytest.AppraiseThree(t)
	d, r := a.TD, a.Right
	k := read(t, r)
	cpu := k.Submods["cpu0"]
	want := map[string]int{"instance-identity": 2, "configuration": 2, "executables": 3, "runtime-opaque": 2}
	if cpu.Status != "affirming" || !maps.Equal(cpu.Vector, want) {
		t.Errorf("%s, %v: want affirming, %v; %s", cpu.Status, cpu.Vector, want, r.Reason)
	}
	if k.Verdict != "trusted" || k.Launch != r.Claims.Container.LaunchDigest.String() || k.Nonce != base64.RawURLEncoding.EncodeToString(a.Nonce) || !strings.HasPrefix(cpu.Policy, "sha384:") {
		t.Errorf("%+v", k)
	}
	if got := cpu.Evidence.Runtime["tee-pubkey"]; got["x"] != a.Key.X || got["alg"] != a.Key.Algorithm {
		t.Errorf("the key: %v", got)
	}

	for name, c := range map[string]struct {
		r       *verify.Result
		verdict verify.Verdict
		status  string
		vector  map[string]int
	}{
		"another container": {a.Wrong, verify.NotTrusted, "contraindicated",
			map[string]int{"instance-identity": 97, "configuration": 2, "executables": 3, "runtime-opaque": 2}},
		"no policy":  {d.Appraise(a.Evidence, a.Nonce, nil), verify.NotTrusted, "contraindicated", map[string]int{"runtime-opaque": 2}},
		"replayed":   {a.Replayed, verify.NotAuthentic, "contraindicated", all99()},
		"cut short":  {d.Appraise(a.Evidence[:len(a.Evidence)-9], a.Nonce, a.Policy), verify.Malformed, "contraindicated", all99()},
		"no nonce":   {d.Appraise(a.Evidence, nil, a.Policy), verify.NotTrusted, "contraindicated", want},
		"other boot": {verifytest.Boot(t, sim.Config{Debug: true}).Appraise(a.Evidence, a.Nonce, a.Policy), verify.NotAuthentic, "contraindicated", all99()},
	} {
		k := read(t, c.r)
		cpu := k.Submods["cpu0"]
		if c.r.Verdict != c.verdict || cpu.Status != c.status || !maps.Equal(cpu.Vector, c.vector) {
			t.Errorf("%s: %s (%s), %s, %v", name, c.r.Verdict, c.r.Reason, cpu.Status, cpu.Vector)
		}
		if k.Launch != "" || cpu.Evidence != nil && cpu.Evidence.Runtime != nil {
			t.Errorf("%s: it names a launch digest %q or a key", name, k.Launch)
		}
		if authentic := c.verdict == verify.NotTrusted; (k.Nonce != "") != authentic || (cpu.Evidence != nil) != authentic {
			t.Errorf("%s: nonce %q, evidence %v", name, k.Nonce, cpu.Evidence)
		}
	}
}

func all99() map[string]int {
	v := map[string]int{}
	for _, m := range allMembers {
		v[m] = 99
	}
	return v
}

// Each step and each gap has its effect on each row, and a step that is skipped, or is
// not there, leaves no claim.
func TestRows(t *testing.T) {
	for _, w := range rows {
		good := &verify.Result{Verdict: verify.Trusted}
		for _, n := range w.needs {
			good.Steps = append(good.Steps, verify.Step{Name: n.step, Outcome: verify.Pass})
		}
		if got := w.of(good); got != w.value && !(w.member == "executables" && got == bootAffirmed) {
			t.Errorf("%s, all pass: %d", w.member, got)
		}
		for i, n := range w.needs {
			for outcome, want := range map[verify.Outcome]int{verify.Skip: leftOut, verify.Fail: n.fail, verify.Warn: n.warn} {
				bad := *good
				bad.Steps = append([]verify.Step(nil), good.Steps...)
				bad.Steps[i].Outcome = outcome
				switch got := w.of(&bad); {
				case outcome == verify.Fail && want == 0 && got != leftOut, want != 0 && got != want:
					t.Errorf("%s, %s %s: %d", w.member, n.step, outcome, got)
				}
			}
			missing := *good
			missing.Steps = append(append([]verify.Step(nil), good.Steps[:i]...), good.Steps[i+1:]...)
			if got := w.of(&missing); got != leftOut {
				t.Errorf("%s without %s: %d", w.member, n.step, got)
			}
		}
		for code, want := range w.gaps {
			if _, known := codes.Of(code); !known {
				t.Errorf("%s: no code %q", w.member, code)
			}
			gap := *good
			gap.NotProved = []verify.Statement{{Code: code}}
			if got := w.of(&gap); got != want {
				t.Errorf("%s, %s: %d, want %d", w.member, code, got, want)
			}
		}
	}
}

// Only what is trusted is affirming.
// TestWaived: what a policy waives bears on a member, or the steps that it leaves out do. A
// code that is new must be thought of here.
func TestWaived(t *testing.T) {
	elsewhere := map[string]string{
		codes.Collateral: "the step is skipped", codes.SNPLevel: "the step is skipped", codes.EarlierLaunch: "caller-values fails",
		codes.Nonce: "not_proved says so; cimactl verify demands one", codes.NonceAge: "iat and exp are the token's",
		codes.RootPartly: "of files that IMA does not cover nothing is said", codes.LineOpens: "executables are those of the boot",
	}
	for _, input := range codes.HostInputs() {
		elsewhere[codes.HostInput+input] = "what the system reads is no executable of the boot"
	}
	for _, c := range codes.All() {
		mapped := false
		for _, w := range rows {
			_, there := w.gaps[c.Name]
			mapped = mapped || there
		}
		if c.Stands && mapped == (elsewhere[c.Name] != "") {
			t.Errorf("%s can be waived: it must bear on a member of the vector, or stand here with the reason why not, and not both", c.Name)
		}
	}
}

func TestStatus(t *testing.T) {
	for _, verdict := range []verify.Verdict{verify.Trusted, verify.Authentic, verify.NotTrusted, verify.NotAuthentic, verify.Malformed, "", "of a later version"} {
		for n, want := range map[int]string{0: "none", 2: "affirming", 3: "affirming", 32: "warning", 33: "warning", 96: "contraindicated", 99: "contraindicated"} {
			switch {
			case verdict == verify.Authentic && n < contraFrom:
				want = "warning"
			case verdict != verify.Trusted && verdict != verify.Authentic:
				want = "contraindicated"
			}
			if got := status(&verify.Result{Verdict: verdict}, map[string]int{"hardware": n}); got != want {
				t.Errorf("%q, %d: %s, want %s", verdict, n, got, want)
			}
		}
	}
}

func TestSign(t *testing.T) {
	text, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	key, public, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	by := func(k crypto.Signer) func([]byte) ([]byte, error) {
		return func(digest []byte) ([]byte, error) { return k.Sign(nil, digest, crypto.SHA256) }
	}
	for range 300 { // r and s with leading zeros among them
		token, err := public.Sign([]byte(`{"a":1}`), by(key))
		if err != nil {
			t.Fatal(err)
		}
		parts := strings.Split(string(token), ".")
		signature, err := base64.RawURLEncoding.DecodeString(parts[2])
		sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
		if err != nil || len(signature) != 64 || !ecdsa.Verify(public.key, sum[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])) {
			t.Fatalf("%s: %v", token, err)
		}
	}
	other, _ := NewKey()
	thief, _, _ := Parse(other)
	if _, err := public.Sign(nil, by(thief)); err == nil {
		t.Error("another key's signature passes")
	}
	broken := errors.New("broken")
	if _, err := public.Sign(nil, func([]byte) ([]byte, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":     "",
		"no PEM":      "{}",
		"certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
		"encrypted":   "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
		"Ed25519":     "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n",
	} {
		if _, _, err := Parse([]byte(text)); err == nil {
			t.Errorf("%s is taken for a key", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	text, _ := NewKey()
	f.Add(text)
	f.Add([]byte("-----BEGIN EC PARAMETERS-----\nAAAA\n-----END EC PARAMETERS-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, public, err := Parse(text); err == nil {
			if _, err := JWKS(public); err != nil {
				t.Error(err)
			}
		}
	})
}

// Both dialects say the same under other names.
func TestDialects(t *testing.T) {
	r := &verify.Result{Verdict: verify.NotTrusted}
	for profile, n := range dialects {
		text, err := Claims(r, Options{Profile: profile})
		if err != nil || !strings.Contains(string(text), `"`+n.status+`":"contraindicated"`) || !strings.Contains(string(text), n.profile) {
			t.Errorf("%s: %s, %v", profile, text, err)
		}
	}
	if len(dialects) != len(Profiles) {
		t.Error("a profile has no name")
	}
	if _, err := Claims(r, Options{Profile: "v3"}); err == nil {
		t.Error("an unknown profile is written")
	}
}

// A token names who wrote it and when, and ends.
func TestTimes(t *testing.T) {
	text, err := Claims(&verify.Result{Verdict: verify.NotTrusted, Verifier: "cimactl 1"}, Options{Profile: Veraison, Issuer: "https://v.example", Now: time.Unix(1e9, 0)})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"iat":1000000000`, `"exp":1000000300`, `"iss":"https://v.example"`, `"build":"cimactl 1"`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s lacks %s", text, want)
		}
	}
}
