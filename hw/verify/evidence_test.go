package verify

import (
	"bytes"
	"crypto/sha512"
	"testing"

	"github.com/cima-project/cima/rpc"
)

func TestMalformed(t *testing.T) {
	w := twoContainers(t)
	for name, forge := range map[string]func(e *rpc.Evidence){
		"quote empty":             func(e *rpc.Evidence) { e.Quote = nil },
		"quote with a tail":       func(e *rpc.Evidence) { e.Quote = append(e.Quote, 0) },
		"quote cut":               func(e *rpc.Evidence) { e.Quote = e.Quote[:len(e.Quote)-1] },
		"boot log with padding":   func(e *rpc.Evidence) { *e = *padBootLog(w) },
		"no event":                func(e *rpc.Evidence) { e.RuntimeLog[0].Event = []byte("AELA") },
		"half a digest":           func(e *rpc.Evidence) { e.RuntimeLog[4].Digests = e.RuntimeLog[4].Digests[:47] },
		"a run of digests in two": splitRun,
		"profile":                 func(e *rpc.Evidence) { e.Profile += "/" },
		"tee":                     func(e *rpc.Evidence) { e.TEE = "snp" },
	} {
		t.Run(name, func(t *testing.T) {
			e := w.evidence(idOne)
			forge(e)
			expect(t, appraiseT(t, encode(t, e), w.options()), Malformed, StepFormat)
		})
	}
	good := encode(t, w.evidence(idOne))
	for name, bundle := range map[string][]byte{
		"nothing":      nil,
		"no JSON":      []byte("quote"),
		"null":         []byte("null"),
		"cut":          good[:len(good)/2],
		"tail":         append(bytes.Clone(good), "{}"...),
		"twice":        bytes.Replace(good, []byte(`"tee":`), []byte(`"tee":"tdx","tee":`), 1),
		"case variant": bytes.Replace(good, []byte(`"tee":`), []byte(`"Tee":`), 1),
		"unknown":      bytes.Replace(good, []byte(`"tee":`), []byte(`"x":1,"tee":`), 1),
		"too large":    make([]byte, rpc.MaxEvidence+1),
	} {
		t.Run(name, func(t *testing.T) {
			expect(t, appraiseT(t, bundle, w.options()), Malformed, StepFormat)
		})
	}
}

// padBootLog is evidence whose claims name the boot log with its padding.
func padBootLog(w *world) *rpc.Evidence {
	padded := append(w.bootLog(), bytes.Repeat([]byte{0xFF}, 16)...)
	c := w.claims(idOne)
	c.BootLog = sha512.Sum384(padded)
	e := w.seal(c, w.key)
	e.BootLog = padded
	return e
}

// splitRun writes the first run of digests, which has two, as two runs.
func splitRun(e *rpc.Evidence) {
	run := e.RuntimeLog[4].Digests
	rest := append([]rpc.LogEntry{{Digests: run[:48]}, {Digests: run[48:]}}, e.RuntimeLog[5:]...)
	e.RuntimeLog = append(e.RuntimeLog[:4:4], rest...)
}
