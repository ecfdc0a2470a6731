package verify

import (
	"crypto/sha512"
	"strings"
	"testing"
)

func TestNonceAndUserData(t *testing.T) {
	w := twoContainers(t)
	c := w.claims(idOne)
	c.UserData = []byte("key of the channel")
	bundle := encode(t, w.seal(c, w.key))

	opts := w.options()
	opts.Policy = policyOf(t, appraiseT(t, bundle, opts))
	r := appraiseT(t, bundle, opts)
	expect(t, r, Trusted)
	if s := r.Step(StepUserData); s.Outcome != Skip || !strings.HasPrefix(s.Detail, "channel: not bound") {
		t.Errorf("user data that was not checked: %+v", s)
	}
	opts.UserData = &c.UserData
	r = appraiseT(t, bundle, opts)
	expect(t, r, Trusted)
	if s := r.Step(StepUserData); s.Outcome != Pass {
		t.Errorf("user data as expected: %+v", s)
	}
	wrong := []byte("key of another channel")
	opts.UserData = &wrong
	expect(t, appraiseT(t, bundle, opts), NotAuthentic, StepUserData)
	none := []byte{}
	opts.UserData = &none
	expect(t, appraiseT(t, bundle, opts), NotAuthentic, StepUserData)

	opts.UserData, opts.Nonce = nil, nil
	r = appraiseT(t, bundle, opts)
	expect(t, r, NotTrusted, StepNotProved)
	if !strings.HasPrefix(r.Reason, StepNotProved) || !strings.Contains(r.Reason, "nonce") {
		t.Errorf("no nonce given: reason %q", r.Reason)
	}
	opts.Nonce = []byte("replayed, by then")
	expect(t, appraiseT(t, bundle, opts), NotAuthentic, StepNonce)
}

func TestRestarts(t *testing.T) {
	w := twoContainers(t)
	w.start(w.key)
	bundle, opts := encode(t, w.evidence(idOne)), w.options()
	r := appraiseT(t, bundle, opts)
	if s := r.Step(StepAgent); s.Outcome != Pass || !strings.Contains(s.Detail, "kept over 1 restarts") {
		t.Errorf("restart with its key: %+v", s)
	}
	made := textOf(t, r)
	opts.Policy = parsePolicy(t, made)

	w.key = newKey(2)
	w.start(w.key)
	bundle = encode(t, w.evidence(idOne))
	r = appraiseT(t, bundle, opts)
	expect(t, r, NotTrusted, StepNotProved)
	if s := r.Step(StepAgent); s.Outcome != Warn {
		t.Errorf("restart with a new key: %+v", s)
	}
	opts.Policy = parsePolicy(t, replaced(t, made, "waive = [", "waive = [\"agent-key\","))
	expect(t, appraiseT(t, bundle, opts), Trusted)

	// The old key is no longer in force.
	c := w.claims(idOne)
	c.Agent = sha512.Sum384(publicOf(newKey(1)))
	expect(t, appraiseT(t, encode(t, w.seal(c, newKey(1))), opts), NotAuthentic, StepAgent)
}
