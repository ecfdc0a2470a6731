package ear

import (
	"encoding/base64"
	"encoding/json/v2"
	"fmt"
	"strings"
	"time"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/userdata"
)

// Profile is a dialect of attestation results.
type Profile string

// The dialects. Names of members differ, what they say doesn't.
const (
	Veraison Profile = "veraison" // what Trustee, OPA's samples and veraison/ear read
	IETF04   Profile = "ietf-04"  // draft-ietf-rats-ear-04
)

// Profiles are all of them, the usual one first.
var Profiles = []Profile{Veraison, IETF04}

// names are the members of a dialect.
type names struct {
	profile, verifier, status, vector, policies, evidence string
}

var dialects = map[Profile]names{
	Veraison: {"tag:github.com,2023:veraison/ear", "ear.verifier-id", "ear.status", "ear.trustworthiness-vector", "ear.appraisal-policy-id", "ear.veraison.annotated-evidence"},
	IETF04:   {"tag:ietf.org,2026:rats/ear#04", "ear_verifier_id", "ear_status", "ear_trustworthiness_vector", "ear_appraisal_policy_ids", "ear_attester_claims"},
}

// lifetime of a token. Its nonce makes it fresh; this bounds who keeps it.
const lifetime = 5 * time.Minute

// developer of the verifier, in the token.
const developer = "https://github.com/cima-project/cima"

// Options of a token.
type Options struct {
	Profile Profile
	Issuer  string    // iss
	Now     time.Time // iat
}

// seen are the claims of the evidence that a token repeats. Not the user data as a
// whole, and not the events: they are long, and some are nobody's business.
type seen struct {
	Container *seenContainer     `json:"container,omitzero"`
	Host      *rpc.HostClaims    `json:"host,omitzero"`
	Anchor    string             `json:"log_anchor"`
	Registers *verify.Registers  `json:"registers,omitzero"`
	Root      *verify.Root       `json:"root,omitzero"`
	NotProved []notProved        `json:"not_proved"`
	Runtime   *runtimeDataClaims `json:"runtime_data_claims,omitzero"` // where Trustee looks for the key
}

type seenContainer struct {
	ID           string        `json:"id"`
	LaunchDigest rpc.Digest    `json:"launch_digest"`
	ImageDigest  string        `json:"image_digest,omitzero"`
	Assurance    rpc.Assurance `json:"assurance"`
}

type notProved struct {
	Code   string `json:"code"`
	Waived bool   `json:"waived,omitzero"`
}

type runtimeDataClaims struct {
	Key userdata.JWK `json:"tee-pubkey"`
}

// Claims are the payload of a token about an appraisal, as JSON. It is the appraisal's
// word: whether the nonce is fresh, only who made it knows.
func Claims(r *verify.Result, o Options) ([]byte, error) {
	n, known := dialects[o.Profile]
	if !known {
		return nil, fmt.Errorf("the profile must be one of %v, not %q", Profiles, o.Profile)
	}
	v := vector(r)
	sub := map[string]any{n.status: status(r, v), n.vector: v}
	if p := policies(r); len(p) > 0 {
		sub[n.policies] = p
		if o.Profile == Veraison { // one text
			sub[n.policies] = strings.Join(p, " ")
		}
	}
	claims := map[string]any{
		"eat_profile":  n.profile,
		"iss":          o.Issuer,
		"iat":          o.Now.Unix(),
		"exp":          o.Now.Add(lifetime).Unix(),
		n.verifier:     map[string]string{"developer": developer, "build": r.Verifier},
		"submods":      map[string]any{"cpu0": sub}, // the name that Trustee's policies have
		"cima_verdict": r.Verdict,                   // for readers who match texts alone
	}
	if r.Claims != nil && (r.Verdict == verify.Trusted || r.Verdict == verify.NotTrusted) { // else nobody's word
		claims["eat_nonce"] = b64(r.Claims.Nonce)
		evidence, err := annotated(r)
		if err != nil {
			return nil, err
		}
		sub[n.evidence] = evidence
	}
	if c := r.Claims; r.Verdict == verify.Trusted && c != nil && c.Container != nil {
		claims["cima_launch_digest"] = c.Container.LaunchDigest
	}
	return json.Marshal(claims, json.Deterministic(true))
}

// annotated is what the evidence said. The key for a key broker is there only where the
// verdict is trusted, so that no careless reader encrypts for anybody else's.
func annotated(r *verify.Result) (*seen, error) {
	s := &seen{Host: r.Claims.Host, Anchor: r.Claims.Log.Anchor, Registers: r.Registers, Root: r.Root, NotProved: []notProved{}}
	if c := r.Claims.Container; c != nil {
		s.Container = &seenContainer{c.ID, c.LaunchDigest, c.ImageDigest, c.Assurance}
	}
	for _, p := range r.NotProved {
		s.NotProved = append(s.NotProved, notProved{p.Code, p.Waived})
	}
	if r.Verdict != verify.Trusted {
		return s, nil
	}
	switch key, err := userdata.ReadTEEPubkey(r.Claims.UserData); {
	case userdata.IsOther(err):
	case err != nil:
		return nil, fmt.Errorf("no token: the evidence binds a key that no key broker takes: %w", err)
	default:
		s.Runtime = &runtimeDataClaims{key}
	}
	return s, nil
}

// policies are the SHA-384s of the policy's files, as URNs.
func policies(r *verify.Result) (ids []string) {
	for _, p := range r.Policy {
		ids = append(ids, "sha384:"+p.SHA384.String())
	}
	return ids
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
