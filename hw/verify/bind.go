package verify

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// quoteSignature: the TD's report is signed by a key that a quoting enclave
// vouches for, that one by a platform key, and so on up to a trusted root.
func (a *appraisal) quoteSignature() Step {
	if err := a.quote.Verify(a.roots(), a.opts.At); err != nil {
		a.untrusted = err
		return fail(err.Error())
	}
	root := a.quote.Chain[chainLength-1]
	return pass("signed, and the chain ends in "+rootName(root),
		Comparison{"root, SHA-256", fingerprint(root), fingerprint(root)})
}

// rootName is what tells roots apart for people: a simulated TD's bears the
// same common name as Intel's, for verifiers ask for it.
func rootName(c *x509.Certificate) string {
	name := c.Subject.CommonName
	if len(c.Subject.Organization) > 0 {
		name += " of " + c.Subject.Organization[0]
	}
	return name
}

// boundClaims: the quote was made for these claims and no others.
func (a *appraisal) boundClaims() Step {
	if a.evidence.Shared != nil {
		return a.boundInTree()
	}
	c := Comparison{"REPORTDATA", hex.EncodeToString(a.reportData[:]), hex.EncodeToString(a.quote.ReportData[:])}
	if a.reportData != a.quote.ReportData {
		return fail("the quote was made for other claims", c)
	}
	return pass("the quote holds the SHA-512 of the claims", c)
}

// agentKey is a key that a start event announces.
type agentKey struct {
	position int
	key      ed25519.PublicKey
}

// agent: the claims are by the agent whose key the log announced before
// anything else, or at its latest restart.
func (a *appraisal) agent() Step {
	if err := a.readKeys(); err != nil {
		return fail(err.Error())
	}
	inForce := a.keys[len(a.keys)-1]
	sum := rpc.Digest(sha512.Sum384(inForce.key))
	c := Comparison{"agent key, SHA-384", sum.String(), a.claims.Agent.String()}
	if sum != a.claims.Agent {
		return fail("the claims name another agent than the log", c)
	}
	if !rpc.VerifyReportData(inForce.key, a.reportData, a.evidence.AgentSignature) {
		return fail(fmt.Sprintf("the signature is not by the key of event %d", inForce.position), c)
	}
	restarts := len(a.keys) - 1
	switch {
	case a.newKey():
		return warn(fmt.Sprintf("signed by the key of event %d: the agent restarted and lost the key of event 0, or something else passes for it", inForce.position), c)
	case restarts > 0:
		return pass(fmt.Sprintf("signed by the key of event 0, which the agent kept over %d restarts", restarts), c)
	}
	return pass("signed by the key of event 0", c)
}

// newKey says whether a start event in the prefix announces another key than
// event 0.
func (a *appraisal) newKey() bool {
	for _, k := range a.keys {
		if !bytes.Equal(k.key, a.keys[0].key) {
			return true
		}
	}
	return false
}

// readKeys reads the keys of the start events in the prefix; the first is
// event 0's.
func (a *appraisal) readKeys() error {
	if len(a.log) == 0 || a.log[0].event == nil || a.log[0].event.Operation != logs.OpStart {
		return errors.New("event 0 is no start event: the log doesn't say who writes it")
	}
	for i, e := range a.prefix() {
		if e.event == nil || e.event.Operation != logs.OpStart {
			continue
		}
		var start struct {
			AgentKey string `json:"agent_key"`
		}
		if err := json.Unmarshal(e.event.Body(), &start); err != nil {
			return fmt.Errorf("start event %d: %w", i, err)
		}
		key, err := base64.StdEncoding.Strict().DecodeString(start.AgentKey)
		if err != nil || len(key) != ed25519.PublicKeySize {
			return fmt.Errorf("start event %d: agent_key is not %d bytes in standard base64", i, ed25519.PublicKeySize)
		}
		a.keys = append(a.keys, agentKey{i, key})
	}
	if len(a.keys) == 0 {
		return errors.New("the claims were fixed before event 0: no agent had started")
	}
	return nil
}

// nonce: the evidence was made after the verifier chose its nonce.
func (a *appraisal) nonce() Step {
	if len(a.opts.Nonce) == 0 {
		return skip("no nonce was given to look for: the evidence may be old")
	}
	c := Comparison{"nonce", hex.EncodeToString(a.opts.Nonce), hex.EncodeToString(a.claims.Nonce)}
	if !bytes.Equal(a.opts.Nonce, a.claims.Nonce) {
		return fail("the evidence was made for another nonce", c)
	}
	return pass("the evidence was made for this nonce", c)
}

// userData: what the caller bound into the claims, typically its channel's key.
func (a *appraisal) userData() Step {
	got := a.claims.UserData
	if a.opts.UserData == nil {
		if len(got) > 0 {
			return skip(fmt.Sprintf("channel: not bound: nobody looked at the %d bytes of user data", len(got)))
		}
		return skip("channel: not bound: the claims carry no user data")
	}
	c := Comparison{"user data", hex.EncodeToString(*a.opts.UserData), hex.EncodeToString(got)}
	if !bytes.Equal(*a.opts.UserData, got) {
		return fail("the claims carry other user data", c)
	}
	if len(got) == 0 {
		return skip("channel: not bound: no user data, as expected")
	}
	return pass("channel: bound: the claims carry the expected user data", c)
}
