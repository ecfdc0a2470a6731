package verify

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/json"
	"slices"
	"testing"

	"github.com/cima-project/cima/logs/canonical"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/rpc"
)

// sealShared is the evidence of several claims under one quote. at is the
// position of each in the tree.
func (w *world) sealShared(claims ...*rpc.Claims) []*rpc.Evidence {
	w.t.Helper()
	var leaves [][64]byte
	var made []*rpc.Evidence
	for _, c := range claims {
		e := w.seal(c, w.key) // without the quote
		data, err := rpc.ReportData(e.Claims)
		if err != nil {
			w.t.Fatal(err)
		}
		leaves, made = append(leaves, data), append(made, e)
	}
	tree, err := rpc.NewTree(leaves)
	if err != nil {
		w.t.Fatal(err)
	}
	quote := w.quoteOver(tree.ReportData())
	for i, e := range made {
		e.Quote, e.Shared = quote, tree.Shared(i)
	}
	return made
}

func (w *world) quoteOver(data [64]byte) []byte {
	w.t.Helper()
	quote, err := w.td.Quote(context.Background(), hw.ReportData(data))
	if err != nil {
		w.t.Fatal(err)
	}
	return quote
}

// fiveSharing is evidence of two containers and the host that share a quote.
func fiveSharing(w *world) []*rpc.Evidence {
	var claims []*rpc.Claims
	for i, id := range []string{idOne, idTwo, "", idTwo, idOne} {
		c := w.claims(id)
		if i > 0 {
			c.UserData = []byte{byte(i)}
		}
		claims = append(claims, c)
	}
	return w.sealShared(claims...)
}

func TestSharedIsTrusted(t *testing.T) {
	w := twoContainers(t)
	for size := range 9 {
		var claims []*rpc.Claims
		for i := range size + 1 {
			c := w.claims(idOne)
			c.UserData = []byte{byte(i)}
			claims = append(claims, c)
		}
		for _, e := range w.sealShared(claims...) {
			opts := w.options()
			first := appraiseT(t, encode(t, e), opts)
			expect(t, first, NotTrusted)
			opts.Policy = policyOf(t, first)
			r := appraiseT(t, encode(t, e), opts)
			expect(t, r, Trusted)
			if s := r.Step(StepShared); s.Outcome != Pass {
				t.Errorf("%+v", s)
			}
		}
	}
	r := appraiseT(t, encode(t, w.evidence(idOne)), w.options())
	if s := r.Step(StepShared); s.Outcome != Skip {
		t.Errorf("of a quote of its own: %+v", s)
	}
}

// TestSharedForged: what a forger can make who has the evidence of one or all
// callers that share, and can have bytes of its own choice quoted, but doesn't
// have the agent's key.
func TestSharedForged(t *testing.T) {
	w := twoContainers(t)
	all := fiveSharing(w)
	fits := policyOf(t, appraiseT(t, encode(t, all[0]), w.options()))
	others := fiveSharing(w)[:4]
	sum := func(e *rpc.Evidence) [64]byte { d, _ := rpc.ReportData(e.Claims); return d }
	inTree := []string{StepShared}
	for name, c := range map[string]struct {
		forge  func(e *rpc.Evidence)
		failed []string
	}{
		"a bit of the path": {func(e *rpc.Evidence) { e.Shared.Path[1][7] ^= 4 }, inTree},
		"path reversed":     {func(e *rpc.Evidence) { slices.Reverse(e.Shared.Path) }, inTree},
		"path cut":          {func(e *rpc.Evidence) { e.Shared.Path = e.Shared.Path[:2] }, inTree},
		"path longer":       {func(e *rpc.Evidence) { e.Shared.Path = append(e.Shared.Path, rpc.Digest{}) }, inTree},
		"no path":           {func(e *rpc.Evidence) { e.Shared.Path = nil }, inTree},
		"another index":     {func(e *rpc.Evidence) { e.Shared.Index = 1 }, inTree},
		"index beyond":      {func(e *rpc.Evidence) { e.Shared.Index = 5 }, inTree},
		"a size with the same path": {func(e *rpc.Evidence) {
			e.Shared.Size = 6
		}, inTree},
		"a proof for another size": {func(e *rpc.Evidence) {
			tree, _ := rpc.NewTree([][64]byte{sum(all[0]), sum(all[1]), sum(all[2]), sum(all[3])})
			e.Shared = tree.Shared(0)
		}, inTree},
		"the proof of another leaf": {func(e *rpc.Evidence) { e.Shared = all[1].Shared }, inTree},
		"a leaf of another tree":    {func(e *rpc.Evidence) { e.Quote = w.sealShared(w.claims(idTwo), w.claims(""))[0].Quote }, inTree},
		"a proof of another tree":   {func(e *rpc.Evidence) { e.Shared = w.sealShared(w.claims(idOne), w.claims(""))[0].Shared }, inTree},
		"a quote of its own": {func(e *rpc.Evidence) {
			e.Quote = w.evidence(idOne).Quote
		}, inTree},
		"a quote of its own, as a tree of one": {func(e *rpc.Evidence) {
			e.Quote, e.Shared = w.evidence(idOne).Quote, &rpc.Shared{Size: 1}
		}, inTree},
		"a shared quote as its own": {func(e *rpc.Evidence) { e.Shared = nil }, []string{StepReportData}},
		"the root as claims": {func(e *rpc.Evidence) {
			*e = *others[0]
			e.Shared = nil
			e.Claims = json.RawMessage(statement(t, root(t, others[0]), 4))
		}, []string{StepFormat}},
		// A node in the place of a leaf: the path of the leaves below it, one
		// step shorter, in a tree of half the size with the same root.
		"a node as a leaf": {func(e *rpc.Evidence) {
			four, _ := rpc.NewTree([][64]byte{sum(e), sum(all[1]), sum(all[2]), sum(all[3])})
			e.Shared = &rpc.Shared{Size: 2, Path: four.Shared(0).Path[1:]}
			e.Quote = w.quoteOver(sha512.Sum512([]byte(statement(t, root(t, &rpc.Evidence{Claims: e.Claims, Shared: four.Shared(0)}), 2))))
		}, inTree},
		// Trees made by a forger, whose hashes don't distinguish leaves from
		// nodes.
		"a leaf hashed as a node": {func(e *rpc.Evidence) {
			d := sum(e)
			e.Shared = &rpc.Shared{Size: 1}
			e.Quote = w.quoteOver(sha512.Sum512([]byte(statement(t, sha512.Sum384(append([]byte{1}, d[:]...)), 1))))
		}, inTree},
		"a leaf hashed as it is": {func(e *rpc.Evidence) {
			d := sum(e)
			e.Shared = &rpc.Shared{Size: 1}
			e.Quote = w.quoteOver(sha512.Sum512([]byte(statement(t, sha512.Sum384(d[:]), 1))))
		}, inTree},
		"the root without its profile": {func(e *rpc.Evidence) {
			r := root(t, e)
			e.Quote = w.quoteOver([64]byte(append(r[:], make([]byte, 16)...)))
		}, inTree},
		// A forger who can have bytes quoted can make any tree, but no
		// signature in it.
		"claims changed, in a tree of a liar's": {func(e *rpc.Evidence) {
			c := w.claims(idOne)
			c.Container.Runtime = "podman"
			liar := w.sealShared(c)[0]
			e.Claims, e.Quote, e.Shared = liar.Claims, liar.Quote, liar.Shared
		}, []string{StepAgent}},
		"claims changed": {func(e *rpc.Evidence) {
			e.Claims = slices.Concat([]byte(`{"aaa":1,`), e.Claims[1:])
		}, []string{StepShared, StepAgent}},
		"the signature of another": {func(e *rpc.Evidence) { e.AgentSignature = all[1].AgentSignature }, []string{StepAgent}},
	} {
		t.Run(name, func(t *testing.T) {
			e := *all[0]
			shared := *e.Shared
			shared.Path = slices.Clone(shared.Path)
			e.Shared = &shared
			c.forge(&e)
			opts := w.options()
			opts.Policy = fits
			verdict := NotAuthentic
			if c.failed[0] == StepFormat {
				verdict = Malformed
			}
			r := appraiseT(t, encode(t, &e), opts)
			expect(t, r, verdict, c.failed...)
			if c.failed[0] == StepShared && r.Step(StepReportData).Outcome != Skip {
				t.Errorf("bound by a proof that leads nowhere: %+v", r.Step(StepReportData))
			}
		})
	}
	opts := w.options()
	opts.Policy = fits
	expect(t, appraiseT(t, encode(t, all[0]), opts), Trusted)
}

// statement is the preimage of a shared quote's REPORTDATA, as cima-evidence(7)
// defines it.
func statement(t *testing.T, root rpc.Digest, size int) string {
	t.Helper()
	text, err := canonical.Marshal(map[string]any{"size": size, "root": root, "profile": "https://github.com/cima-project/cima/shared/v1"})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func root(t *testing.T, e *rpc.Evidence) rpc.Digest {
	t.Helper()
	data, err := rpc.ReportData(e.Claims)
	if err != nil {
		t.Fatal(err)
	}
	r, err := e.Shared.Root(data)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestSharedHasNoFreeBit flips each bit of a proof, and of the text of the
// bundle around it.
func TestSharedHasNoFreeBit(t *testing.T) {
	w := twoContainers(t)
	e := fiveSharing(w)[0]
	opts := w.options()
	opts.Policy = policyOf(t, appraiseT(t, encode(t, e), opts))
	shared, err := json.Marshal(e.Shared)
	if err != nil {
		t.Fatal(err)
	}
	good := encode(t, e)
	at := bytes.Index(good, shared)
	if at < 0 {
		t.Fatalf("%s is not in the bundle", shared)
	}
	by := map[string]int{}
	for bit := (at - 10) * 8; bit < (at+len(shared))*8; bit += 3 {
		bad := slices.Clone(good)
		bad[bit/8] ^= 1 << (bit % 8)
		r := appraiseT(t, bad, opts)
		if r.ExitCode == 0 || len(r.Failed()) == 0 {
			t.Fatalf("bit %d of byte %d is free", bit%8, bit/8)
		}
		by[r.Failed()[0].Name]++
	}
	t.Logf("caught first by %v", by)
}
