package verify

import (
	"bytes"
	"crypto/sha512"
	"testing"

	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// TestForged changes evidence after it was made, without any key.
func TestForged(t *testing.T) {
	w := twoContainers(t)
	other := twoContainers(t)
	other.public(logs.OpMissed, `{"why":"x"}`)
	fits := policyOf(t, appraiseT(t, encode(t, w.evidence(idOne)), w.options()))
	for name, c := range map[string]struct {
		forge  func(e *rpc.Evidence)
		failed []string
	}{
		"claims changed": {func(e *rpc.Evidence) {
			e.Claims = bytes.Replace(e.Claims, []byte(`"docker"`), []byte(`"podman"`), 1)
		}, []string{StepReportData, StepAgent}},
		"unknown member added to the claims": {func(e *rpc.Evidence) {
			e.Claims = bytes.Replace(e.Claims, []byte(`"agent"`), []byte(`"aaa":1,"agent"`), 1)
		}, []string{StepReportData, StepAgent}},
		"signature of another": {func(e *rpc.Evidence) {
			e.AgentSignature[3] ^= 1
		}, []string{StepAgent}},
		"quote of the other container": {func(e *rpc.Evidence) {
			e.Quote = w.evidence(idTwo).Quote
		}, []string{StepReportData}},
		"claims, quote and signature of the other container": {func(e *rpc.Evidence) {
			o := w.evidence(idTwo)
			e.Claims, e.Quote, e.AgentSignature = o.Claims, o.Quote, o.AgentSignature
		}, []string{StepCaller}},
		"boot log of another boot": {func(e *rpc.Evidence) {
			e.BootLog = append(e.BootLog, e.BootLog[len(e.BootLog)-60:]...)
		}, []string{StepBootLog}},
		"runtime log of another boot": {func(e *rpc.Evidence) {
			e.RuntimeLog = other.view(idOne)
		}, []string{StepRuntimeLog, StepClaims}},
		"event dropped": {func(e *rpc.Evidence) {
			e.RuntimeLog = append(e.RuntimeLog[:1:1], e.RuntimeLog[2:]...)
		}, []string{StepRuntimeLog, StepClaims}},
		"last event dropped": {func(e *rpc.Evidence) {
			e.RuntimeLog = e.RuntimeLog[:len(e.RuntimeLog)-1]
		}, []string{StepRuntimeLog, StepClaims, StepCaller}},
		"event added": {func(e *rpc.Evidence) {
			e.RuntimeLog = append(e.RuntimeLog, e.RuntimeLog[1])
		}, []string{StepRuntimeLog}},
		"event duplicated": {func(e *rpc.Evidence) {
			e.RuntimeLog = append(e.RuntimeLog[:2:2], e.RuntimeLog[1:]...)
		}, []string{StepRuntimeLog, StepClaims, StepCaller}},
		"events swapped": {func(e *rpc.Evidence) {
			l := e.RuntimeLog
			l[2], l[3] = l[3], l[2]
		}, []string{StepRuntimeLog, StepClaims, StepCaller}},
		"event 0 swapped": {func(e *rpc.Evidence) {
			l := e.RuntimeLog
			l[0], l[1] = l[1], l[0]
		}, []string{StepAgent, StepRuntimeLog, StepClaims}},
		"public event stripped": {func(e *rpc.Evidence) {
			d := w.log[1].Digest()
			e.RuntimeLog[1] = rpc.LogEntry{Digests: d[:]}
		}, []string{StepClaims}},
		"start event stripped": {func(e *rpc.Evidence) {
			d := w.log[0].Digest()
			e.RuntimeLog[0] = rpc.LogEntry{Digests: d[:]}
		}, []string{StepAgent, StepClaims}},
		"own event stripped": {func(e *rpc.Evidence) {
			n := len(e.RuntimeLog) - 1
			d := w.log[len(w.log)-1].Digest()
			e.RuntimeLog = hide(e.RuntimeLog[:n], d)
		}, []string{StepCaller}},
		"own launch stripped": {func(e *rpc.Evidence) {
			d := w.log[2].Digest()
			e.RuntimeLog[2] = rpc.LogEntry{Digests: d[:]}
		}, []string{StepCaller}},
		"own image stripped": {func(e *rpc.Evidence) {
			d := w.log[3].Digest()
			e.RuntimeLog[3] = rpc.LogEntry{Digests: d[:]}
			e.RuntimeLog = append(e.RuntimeLog[:4:4], e.RuntimeLog[4:]...)
			e.RuntimeLog[3].Digests = append(e.RuntimeLog[3].Digests, e.RuntimeLog[4].Digests...)
			e.RuntimeLog = append(e.RuntimeLog[:4], e.RuntimeLog[5:]...)
		}, []string{StepCaller}},
		"another's event shown": {func(e *rpc.Evidence) {
			d := w.log[5].Digest()
			e.RuntimeLog[4] = rpc.LogEntry{Event: w.log[4].Bytes()}
			rest := append([]rpc.LogEntry{{Digests: d[:]}}, e.RuntimeLog[5:]...)
			e.RuntimeLog = append(e.RuntimeLog[:5:5], rest...)
		}, []string{StepCaller}},
		"everything hidden": {func(e *rpc.Evidence) {
			e.RuntimeLog = nil
			for _, ev := range w.log {
				e.RuntimeLog = hide(e.RuntimeLog, ev.Digest())
			}
		}, []string{StepAgent, StepClaims, StepCaller}},
		"os log added": {func(e *rpc.Evidence) {
			e.OSLogs = []rpc.OSLog{{Register: "rtmr2", Format: "ima-ascii", Entries: imaLine}}
		}, []string{StepBootLog}},
	} {
		t.Run(name, func(t *testing.T) {
			e := w.evidence(idOne)
			c.forge(e)
			opts := w.options()
			opts.Policy = fits
			r := appraiseT(t, encode(t, e), opts)
			expect(t, r, NotAuthentic, c.failed...)
			for _, name := range []string{StepBootValues, StepCallerValues, StepPower, StepEvents} {
				if s := r.Step(name); s.Outcome != Skip {
					t.Errorf("a forgery was held against the policy: %+v", s)
				}
			}
		})
	}
}

// imaLine is an entry whose template hash is right.
var imaLine, _ = imaEntry(10, "boot_aggregate")

// TestLyingAgent has claims that the agent's own key signed and that the log
// contradicts: a faulty daemon, or an attacker with its key.
func TestLyingAgent(t *testing.T) {
	w := twoContainers(t)
	for name, c := range map[string]struct {
		lie    func(c *rpc.Claims)
		failed []string
	}{
		"agent":              {func(c *rpc.Claims) { c.Agent[0] ^= 1 }, []string{StepAgent}},
		"nonce":              {func(c *rpc.Claims) { c.Nonce = []byte("another nonce") }, []string{StepNonce}},
		"boot log":           {func(c *rpc.Claims) { c.BootLog[0] ^= 1 }, []string{StepBootLog}},
		"count too high":     {func(c *rpc.Claims) { c.Log.Count = 99 }, []string{StepRuntimeLog, StepClaims}},
		"count too low":      {func(c *rpc.Claims) { c.Log.Count-- }, []string{StepClaims, StepCaller}},
		"count 0":            {func(c *rpc.Claims) { c.Log.Count = 0 }, []string{StepAgent, StepClaims, StepCaller}},
		"register":           {func(c *rpc.Claims) { c.Log.Register[0] ^= 1 }, []string{StepClaims}},
		"public register":    {func(c *rpc.Claims) { c.Log.Public[0] ^= 1 }, []string{StepClaims}},
		"container register": {func(c *rpc.Claims) { c.Container.Register[0] ^= 1 }, []string{StepCaller}},
		"launch digest":      {func(c *rpc.Claims) { c.Container.LaunchDigest[0] ^= 1 }, []string{StepCaller}},
		"no launch digest":   {func(c *rpc.Claims) { c.Container.LaunchDigest = rpc.Digest{} }, []string{StepCaller}},
		"defaults digest":    {func(c *rpc.Claims) { c.Container.DefaultsDigest[0] ^= 1 }, []string{StepCaller}},
		"no defaults digest": {func(c *rpc.Claims) { c.Container.DefaultsDigest = rpc.Digest{} }, []string{StepCaller}},
		"image":              {func(c *rpc.Claims) { c.Container.Image = "registry/two:1" }, []string{StepCaller}},
		"image digest":       {func(c *rpc.Claims) { c.Container.ImageDigest = imageDigestOf("two") }, []string{StepCaller}},
		"cgroup owner":       {func(c *rpc.Claims) { c.Container.Assurance.CgroupOwner = 1000 }, []string{StepCaller}},
		"anchor":             {func(c *rpc.Claims) { c.Log.Anchor = "rtmr2" }, []string{StepRuntimeLog}},
		"unknown container":  {func(c *rpc.Claims) { c.Container.ID = "44" }, []string{StepCaller}},
	} {
		t.Run(name, func(t *testing.T) {
			claims := w.claims(idOne)
			c.lie(claims)
			e := w.seal(claims, w.key)
			expect(t, appraiseT(t, encode(t, e), w.options()), NotAuthentic, c.failed...)
		})
	}
}

// TestRequoted is another service of the guest that quotes bytes it is given: a
// true quote over forged claims, without the agent's key.
func TestRequoted(t *testing.T) {
	w := twoContainers(t)
	expect(t, appraiseT(t, encode(t, w.seal(w.claims(idOne), newKey(9))), w.options()), NotAuthentic, StepAgent)
	c := w.claims(idOne)
	c.Agent = sha512.Sum384(publicOf(newKey(9)))
	expect(t, appraiseT(t, encode(t, w.seal(c, newKey(9))), w.options()), NotAuthentic, StepAgent)
}

func TestHostShowsNobodysEvents(t *testing.T) {
	w := twoContainers(t)
	e := w.evidence("")
	e.RuntimeLog = w.view(idOne)
	expect(t, appraiseT(t, encode(t, e), w.options()), NotAuthentic, StepCaller)
}
