package verify

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/cima-project/cima/hw/verify/evidence"
	"github.com/cima-project/cima/logs/canonical"

	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// boundClaims: the quote was made for these claims.
func boundClaims(ev *evidence.Bundle) Step {
	if ev.Wire.Shared != nil {
		return boundInTree(ev)
	}
	c := Comparison{"REPORTDATA", hex.EncodeToString(ev.ReportData[:]), hex.EncodeToString(ev.Quote.ReportData[:])}
	if ev.ReportData != ev.Quote.ReportData {
		return fail("the quote was made for other claims", c)
	}
	return pass("the quote holds the SHA-512 of the claims", c)
}

// agentKey is a key that a start event announces.
type agentKey struct {
	position int
	key      ed25519.PublicKey
}

// agent: the claims are signed by the agent whose key the log announces in event
// 0, or in its latest start event. It returns the keys that the log announces.
func agent(ev *evidence.Bundle) (Step, agentKeys) {
	keys, err := readKeys(ev)
	if err != nil {
		return fail(err.Error()), nil
	}
	return signedBy(ev, keys), keys
}

// signedBy checks the claims' signature with the key in force, which is the last.
func signedBy(ev *evidence.Bundle, keys agentKeys) Step {
	inForce := keys[len(keys)-1]
	sum := rpc.Digest(sha512.Sum384(inForce.key))
	c := Comparison{"agent key, SHA-384", sum.String(), ev.Claims.Agent.String()}
	if sum != ev.Claims.Agent {
		return fail("the claims name another agent than the log", c)
	}
	if !rpc.VerifyReportData(inForce.key, ev.ReportData, ev.Wire.AgentSignature) {
		return fail(fmt.Sprintf("the signature is not by the key of event %d", inForce.position), c)
	}
	restarts := len(keys) - 1
	switch {
	case keys.changed():
		return warn(fmt.Sprintf("signed by the key of event %d: the agent restarted and lost the key of event 0, or something else passes for it", inForce.position), c)
	case restarts > 0:
		return pass(fmt.Sprintf("signed by the key of event 0, which the agent kept over %d restarts", restarts), c)
	}
	return pass("signed by the key of event 0", c)
}

// agentKeys are the keys of the start events in the prefix, event 0's first.
type agentKeys []agentKey

// changed reports whether a start event announces another key than event 0.
func (keys agentKeys) changed() bool {
	for _, k := range keys {
		if !bytes.Equal(k.key, keys[0].key) {
			return true
		}
	}
	return false
}

// readKeys reads the keys of the start events in the prefix.
func readKeys(ev *evidence.Bundle) (keys agentKeys, err error) {
	if len(ev.Log) == 0 || ev.Log[0].Event == nil || ev.Log[0].Event.Operation != logs.OpStart {
		return nil, errors.New("event 0 is no start event: the log doesn't say who writes it")
	}
	for i, e := range ev.Prefix() {
		if e.Event == nil || e.Event.Operation != logs.OpStart {
			continue
		}
		var start logs.StartBody
		if err := canonical.Decode(e.Event.Body(), &start); err != nil {
			return nil, fmt.Errorf("start event %d: %w", i, err)
		}
		if start.AgentKey == nil {
			return nil, fmt.Errorf("start event %d: there must be an agent_key", i)
		}
		keys = append(keys, agentKey{i, ed25519.PublicKey(start.AgentKey)})
	}
	if len(keys) == 0 {
		return nil, errors.New("the claims were fixed before event 0: no agent had started")
	}
	return keys, nil
}

// nonce: the evidence was made after the verifier chose its nonce.
func nonce(ev *evidence.Bundle, opts Options) Step {
	if len(opts.Nonce) == 0 {
		return skip("no nonce was given to look for: the evidence may be old")
	}
	c := Comparison{"nonce", hex.EncodeToString(opts.Nonce), hex.EncodeToString(ev.Claims.Nonce)}
	if !bytes.Equal(opts.Nonce, ev.Claims.Nonce) {
		return fail("the evidence was made for another nonce", c)
	}
	if wrong, _ := opts.Policy.JudgeNonce(opts.NonceMade, opts.at()); wrong != "" {
		return fail(wrong, c)
	}
	return pass("the evidence was made for this nonce", c)
}

// userData: the claims carry the user data that the verifier expects, typically
// a hash of the channel's key.
func userData(ev *evidence.Bundle, opts Options) Step {
	got := ev.Claims.UserData
	if opts.UserData == nil {
		if len(got) > 0 {
			return skip(fmt.Sprintf("channel: not bound: nobody looked at the %d bytes of user data", len(got)))
		}
		return skip("channel: not bound: the claims carry no user data")
	}
	c := Comparison{"user data", hex.EncodeToString(*opts.UserData), hex.EncodeToString(got)}
	if !bytes.Equal(*opts.UserData, got) {
		return fail("the claims carry other user data", c)
	}
	if len(got) == 0 {
		return skip("channel: not bound: no user data, as expected")
	}
	return pass("channel: bound: the claims carry the expected user data", c)
}
