package verify

import (
	"bytes"
	"crypto/sha512"
	"encoding/hex"
	"fmt"

	"github.com/cima-project/cima/hw/verify/evidence"

	"github.com/cima-project/cima/rpc"
)

// boundClaims: the quote was made for these claims.
func boundClaims(ev *evidence.Bundle) Step {
	if ev.Wire.Shared != nil {
		return boundInTree(ev)
	}
	c := comparedData(ev, ev.ReportData)
	if c.Want != c.Got {
		return fail("the quote was made for other claims", c)
	}
	return pass("the quote holds the SHA-512 of the claims", c)
}

// comparedData holds what was signed against what it must be for report data.
func comparedData(ev *evidence.Bundle, reportData [64]byte) Comparison {
	name, want, got := ev.Quoted(reportData)
	return Comparison{name, hex.EncodeToString(want), hex.EncodeToString(got)}
}

// agent: the claims are signed by the agent whose key the log announces in event
// 0, or in its latest start event. It returns the keys that the log announces.
func agent(ev *evidence.Bundle) (Step, evidence.Keys) {
	keys, err := ev.Keys()
	if err != nil {
		return fail(err.Error()), nil
	}
	return signedBy(ev, keys), keys
}

// signedBy checks the claims' signature with the key in force, which is the last.
func signedBy(ev *evidence.Bundle, keys evidence.Keys) Step {
	inForce := keys[len(keys)-1]
	sum := rpc.Digest(sha512.Sum384(inForce.Key))
	c := Comparison{"agent key, SHA-384", sum.String(), ev.Claims.Agent.String()}
	if sum != ev.Claims.Agent {
		return fail("the claims name another agent than the log", c)
	}
	if !rpc.VerifyReportData(inForce.Key, ev.ReportData, ev.Wire.AgentSignature) {
		return fail(fmt.Sprintf("the signature is not by the key of event %d", inForce.Position), c)
	}
	restarts := len(keys) - 1
	switch {
	case keys.Changed():
		return warn(fmt.Sprintf("signed by the key of event %d: the agent restarted and lost the key of event 0, or something else passes for it", inForce.Position), c)
	case restarts > 0:
		return pass(fmt.Sprintf("signed by the key of event 0, which the agent kept over %d restarts", restarts), c)
	}
	return pass("signed by the key of event 0", c)
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
