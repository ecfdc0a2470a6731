// Package ear asks: do others read our attestation results as we mean them? veraison/ear
// and OPA, as they are published, read tokens of appraisals here.
package ear

import (
	"crypto"
	"encoding/base64"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/open-policy-agent/opa/v1/rego"
	veraison "github.com/veraison/ear"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/ear"
	"github.com/cima-project/cima/hw/verify/verifytest"
)

const issuer = "https://verifier.example"

// signer is a verifier's key.
type signer struct {
	*testing.T
	key    crypto.Signer
	public ear.Public
	jwks   string
}

func newSigner(t *testing.T) *signer {
	t.Helper()
	text, err := ear.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	key, public, err := ear.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	set, err := ear.JWKS(public)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{t, key, public, string(set)}
}

// token of an appraisal, as `cimactl verify --ear` writes it.
func (s *signer) token(r *verify.Result, now time.Time) string {
	s.Helper()
	claims, err := ear.Claims(r, ear.Options{Profile: ear.Veraison, Issuer: issuer, Now: now})
	if err != nil {
		s.Fatal(err)
	}
	token, err := s.public.Sign(claims, func(digest []byte) ([]byte, error) { return s.key.Sign(nil, digest, crypto.SHA256) })
	if err != nil {
		s.Fatal(err)
	}
	return string(token)
}

// verifier is the one key of a JWKS.
func (s *signer) verifier() jwk.Key {
	s.Helper()
	set, err := jwk.Parse([]byte(s.jwks))
	if err != nil || set.Len() != 1 {
		s.Fatal(set, err)
	}
	key, _ := set.Key(0)
	return key
}

// veraison/ear verifies our tokens by our JWKS, and reads the tier and the vector that we
// mean. What another key signed, or anybody changed, is refused.
func TestVeraison(t *testing.T) {
	s := newSigner(t)
	a := verifytest.AppraiseThree(t)
	for name, c := range map[string]struct {
		r      *verify.Result
		tier   veraison.TrustTier
		vector map[string]veraison.TrustClaim
	}{
		"right": {a.Right, veraison.TrustTierAffirming, map[string]veraison.TrustClaim{"instance-identity": 2, "configuration": 2, "executables": 3, "runtime-opaque": 2}},
		"wrong": {a.Wrong, veraison.TrustTierContraindicated, map[string]veraison.TrustClaim{"instance-identity": 97, "configuration": 2, "executables": 3, "runtime-opaque": 2}},
		"replayed": {a.Replayed, veraison.TrustTierContraindicated, map[string]veraison.TrustClaim{"instance-identity": 99, "configuration": 99, "executables": 99, "runtime-opaque": 99,
			"file-system": 99, "hardware": 99, "storage-opaque": 99, "sourced-data": 99}},
	} {
		var got veraison.AttestationResult
		if err := got.Verify([]byte(s.token(c.r, time.Now())), jwa.ES256, s.verifier()); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		cpu := got.Submods["cpu0"]
		if len(got.Submods) != 1 || cpu == nil || *cpu.Status != c.tier {
			t.Errorf("%s: %+v", name, got.Submods)
			continue
		}
		claims := cpu.TrustVector.AsMap()
		maps.DeleteFunc(claims, func(_ string, v veraison.TrustClaim) bool { return v == veraison.NoClaim })
		if !maps.Equal(claims, c.vector) {
			t.Errorf("%s: the vector is %v, want %v", name, claims, c.vector)
		}
		if *got.Profile != veraison.EatProfile || *got.VerifierID.Developer != "https://github.com/cima-project/cima" {
			t.Errorf("%s: %v, %v", name, *got.Profile, *got.VerifierID)
		}
	}
	token := s.token(a.Right, time.Now())
	var got veraison.AttestationResult
	if err := got.Verify([]byte(token), jwa.ES256, newSigner(t).verifier()); err == nil {
		t.Error("another verifier's key verifies it")
	}
	if err := got.Verify([]byte(swapped(t, token, `"affirming"`, `"Affirming"`)), jwa.ES256, s.verifier()); err == nil {
		t.Error("a changed token is verified")
	}
}

// swapped is a token whose claims were changed, with the old signature.
func swapped(t *testing.T, token, old, new string) string {
	t.Helper()
	parts := strings.Split(token, ".")
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || !strings.Contains(string(claims), old) {
		t.Fatalf("%s: %v", claims, err)
	}
	parts[1] = base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(claims), old, new, 1)))
	return strings.Join(parts, ".")
}

// gate is a policy as a web developer writes it.
const gate = `package gate

default allow := false

allow if {
	[valid, _, claims] := io.jwt.decode_verify(input.token, {"cert": input.jwks, "iss": "https://verifier.example"})
	valid
	claims.cima_verdict == "trusted"
	claims.cima_launch_digest == input.launch
	claims.eat_nonce == input.nonce
	claims.submods.cpu0["ear.status"] == "affirming"
}
`

// OPA lets in the container of one launch digest, for one nonce, and nothing else.
func TestOPA(t *testing.T) {
	s := newSigner(t)
	a := verifytest.AppraiseThree(t)
	q, err := rego.New(rego.Query("data.gate.allow"), rego.Module("gate.rego", gate), rego.StrictBuiltinErrors(true)).PrepareForEval(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	launch, now := a.Right.Claims.Container.LaunchDigest.String(), time.Now()
	good := map[string]any{"token": s.token(a.Right, now), "jwks": s.jwks, "launch": launch, "nonce": base64.RawURLEncoding.EncodeToString(a.Nonce)}
	for name, c := range map[string]struct {
		member string
		value  any
		want   bool
	}{
		"right":                {"launch", launch, true},
		"another container":    {"token", s.token(a.Wrong, now), false},
		"replayed evidence":    {"token", s.token(a.Replayed, now), false},
		"another launch":       {"launch", a.Wrong.Claims.Container.LaunchDigest.String(), false},
		"another nonce":        {"nonce", base64.RawURLEncoding.EncodeToString([]byte("nonce of another")), false},
		"another verifier":     {"token", newSigner(t).token(a.Right, now), false},
		"expired":              {"token", s.token(a.Right, now.Add(-6*time.Minute)), false},
		"a changed token":      {"token", swapped(t, s.token(a.Right, now), `"exp":1`, `"exp":9`), false},
		"another launch in it": {"token", swapped(t, s.token(a.Right, now), launch[:8], "00000000"), false},
	} {
		input := maps.Clone(good)
		input[c.member] = c.value
		got, err := q.Eval(t.Context(), rego.EvalInput(input))
		if err != nil || got.Allowed() != c.want {
			t.Errorf("%s: %v, %v, want %v", name, got, err, c.want)
		}
	}
}
