package verify

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify/collateral/collateraltest"
	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/rpc/vectors"
)

// presented is a bundle as somebody presents it, and what was asked of it.
type presented struct {
	name   string
	bundle []byte
	asked  Asked
}

// fromVectors are the bundles of rpc/vectors, good and forged.
func fromVectors(t *testing.T) (all []presented, roots []byte) {
	t.Helper()
	const dir = "../../rpc/vectors"
	_, bundles, err := vectors.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range bundles {
		text, err := os.ReadFile(filepath.Join(dir, b.File))
		if err != nil {
			t.Fatal(err)
		}
		nonce, err := hex.DecodeString(b.Nonce)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, presented{b.File, text, Asked{Nonce: nonce}})
	}
	if roots, err = os.ReadFile(filepath.Join(dir, "bundles", "root.pem")); err != nil {
		t.Fatal(err)
	}
	return all, roots
}

// variants are a bundle asked in other ways, and with a bit flipped.
func variants(of presented, random *rand.Rand) []presented {
	nothing, other := []byte{}, []byte("other")
	all := []presented{
		of,
		{of.name + ", no nonce", of.bundle, Asked{}},
		{of.name + ", another nonce", of.bundle, Asked{Nonce: []byte("a nonce of others")}},
		{of.name + ", no user data", of.bundle, Asked{Nonce: of.asked.Nonce, UserData: &nothing}},
		{of.name + ", other user data", of.bundle, Asked{Nonce: of.asked.Nonce, UserData: &other}},
	}
	bit := random.IntN(len(of.bundle) * 8)
	flipped := bytes.Clone(of.bundle)
	flipped[bit/8] ^= 1 << (bit % 8)
	return append(all, presented{fmt.Sprintf("%s, bit %d", of.name, bit), flipped, of.asked})
}

// TestReusedGivesTheBytesOfFresh: one appraiser for many goroutines, which appraise in any
// order, gives of each bundle the bytes that one gives which was made for it, as JSON and
// as a table: of good evidence and of bad, of several TDs and roots, with a policy and
// without, with collateral that is good, and with none.
func TestReusedGivesTheBytesOfFresh(t *testing.T) {
	const seed = 3
	random := rand.New(rand.NewPCG(seed, 0))
	recorded, root := fromVectors(t)
	roots, err := dcap.ParseRoots(root)
	if err != nil {
		t.Fatal(err)
	}
	w, other := twoContainers(t), newWorld(t, sim.Config{QuoteVersion: 5})
	other.launch(idOne, "one", "/bin/one")
	now := time.Now()
	service := collateraltest.Of(t, w.td, now)
	server := httptest.NewServer(service)
	defer server.Close()
	roots = append(append(roots, w.roots()...), other.roots()...)

	all := recorded
	for i, e := range fiveSharing(w) {
		all = append(all, presented{fmt.Sprint("shared ", i), encode(t, e), Asked{Nonce: testNonce}})
	}
	first := presented{"one", encode(t, w.evidence(idOne)), Asked{Nonce: testNonce}}
	all = append(all, first, presented{"two", encode(t, w.evidence(idTwo)), Asked{Nonce: testNonce}},
		presented{"the host", encode(t, w.evidence("")), Asked{Nonce: testNonce}},
		presented{"of the other TD", encode(t, other.evidence(idOne)), Asked{Nonce: testNonce}})
	var each []presented
	for _, p := range all {
		each = append(each, variants(p, random)...)
	}

	// Collateral of w's platform alone: evidence of another is an error, and those are compared too.
	opts := Options{TrustRoots: roots, At: now, Verifier: "a test"}
	bare, kept := opts, opts
	kept.Collateral = dcap.PCS{API: server.URL, Client: server.Client()}
	ruled := kept
	ruled.Asked = first.asked
	ruled.Policy = policyOf(t, appraiseT(t, first.bundle, ruled))
	ruled.Asked = Asked{}
	for name, opts := range map[string]Options{"no collateral": bare, "collateral": kept, "collateral and policy": ruled} {
		t.Run(name, func(t *testing.T) {
			verdicts := compareReused(t, opts, each, seed)
			if verdicts[NotAuthentic] == 0 || verdicts[Malformed] == 0 || verdicts[NotTrusted] == 0 || (verdicts[Trusted] == 0) != (opts.Policy == nil) {
				t.Errorf("too few kinds of verdicts were compared: %v", verdicts)
			}
			t.Logf("%d bundles, seed %d: %v", len(each), seed, verdicts)
		})
	}
}

// compareReused appraises each bundle alone, then all by one appraiser in three goroutines.
func compareReused(t *testing.T, opts Options, each []presented, seed uint64) map[Verdict]int {
	t.Helper()
	want, verdicts := make([]string, len(each)), map[Verdict]int{}
	for i, p := range each {
		alone := opts
		alone.Asked = p.asked
		r, err := Appraise(t.Context(), p.bundle, alone)
		want[i] = said(t, r, err)
		if err == nil {
			verdicts[r.Verdict]++
		}
	}
	a, err := NewAppraiser(opts)
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for n := range 3 {
		group.Go(func() {
			for _, i := range rand.New(rand.NewPCG(seed, uint64(n))).Perm(len(each)) {
				r, err := a.Appraise(t.Context(), each[i].bundle, each[i].asked)
				if got := said(t, r, err); got != want[i] {
					t.Errorf("%s: reused\n%s\nfresh\n%s", each[i].name, got, want[i])
					return
				}
			}
		})
	}
	group.Wait()
	return verdicts
}

// said is a result in all its forms, or an error.
func said(t *testing.T, r *Result, err error) string {
	t.Helper()
	if err != nil {
		return "error: " + err.Error()
	}
	var table bytes.Buffer
	if err := r.WriteTable(&table); err != nil {
		t.Error(err)
	}
	return string(asJSON(t, r)) + "\n" + table.String()
}
