package card_test

import (
	"encoding/hex"
	"encoding/json/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/card"
	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/hw/verify/verifytest"
)

func text(t *testing.T, r *verify.Result) string {
	t.Helper()
	var b strings.Builder
	if err := card.Of(r).Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// says checks a card: these lines, in this order, and none of the others.
func says(t *testing.T, r *verify.Result, lines []string, never ...string) {
	t.Helper()
	got := text(t, r)
	rest := "\n" + got
	for _, want := range lines {
		_, after, found := strings.Cut(rest, want)
		if !found {
			t.Errorf("%q is not in, or not in its place in\n%s", want, got)
			return
		}
		if rest = after; strings.HasSuffix(want, "\n") {
			rest = "\n" + after
		}
	}
	for _, bad := range never {
		if strings.Contains(got, bad) {
			t.Errorf("%q is in\n%s", bad, got)
		}
	}
	if n := strings.Count(got, "\n"); n > 10 {
		t.Errorf("%d lines, must be at most 10\n%s", n, got)
	}
}

// TestCard: a card of each verdict says what was judged, under which root, by which policy,
// what is wrong and what is not proved.
func TestCard(t *testing.T) {
	td := verifytest.Boot(t, sim.Config{})
	id := td.Launch("1", "docker.io/library/one:1", "--serve")
	nonce := []byte("a nonce of 32 bytes for the card")
	bundle := td.Evidence(id, nonce, nil)
	first := td.Appraise(bundle, nonce, nil)
	says(t, first, []string{
		"\nauthentic, not trusted, under a root that is simulated: Intel SGX Root CA of CIMA",
		"\nwrong       boot-values: no policy was given", "\nhint: ",
		"\nwhat        it says: docker.io/library/one:1\n", "\nlaunch      it says: ",
		"\nwhere       a TD whose boot is not known; patch level not checked", "\npolicy      none was given",
		"\nnot proved  that the platform is patched", "(collateral, in the way)",
	})

	said, p := td.Policy(first)
	trusted := td.Appraise(bundle, nonce, p)
	says(t, trusted, []string{
		"\ntrusted, under a root that is simulated: Intel SGX Root CA of CIMA simulated TD – NOT HARDWARE\n",
		"\nwhat        docker.io/library/one:1, the policy's ", "\nlaunch      ",
		"\nwhere       a TD, booted as ", "\npolicy      ", "SHA-384 ", "\nnot proved  that this is hardware (root-simulated)",
	}, "it says", "wrong", "hint:", "in the way")

	// Another launch: the fact that differs, not the digest that follows from it.
	other := td.Evidence(td.Launch("2", "docker.io/library/one:1", "--serve=all"), nonce, nil)
	says(t, td.Appraise(other, nonce, p), []string{
		"\nauthentic, not trusted, under", "\nwrong       caller-values: ", "--serve=all", "must be", "--serve", "\nhint: ", "\nwhat ",
	}, "one of the policy's")

	stale := td.Appraise(bundle, []byte("another nonce of the same length"), p)
	says(t, stale, []string{
		"\nnot authentic\n", "\nwrong       nonce: the evidence was made for another nonce: nonce is ", "must be ", "\nhint: ",
		"\nwhat        it says: docker.io/library/one:1", "\nnot proved  all that rests on what is wrong",
	}, "under a root")

	says(t, td.Appraise([]byte(`{"quote":1}`), nonce, p), []string{"\nmalformed\nwrong       format: ", "\nhint: ", "\nnot proved  anything"}, "what  ", "it says")

	// What a policy doesn't waive is told once, first.
	strict, err := policy.Parse("strict.toml", without(t, string(said), "waive"))
	if err != nil {
		t.Fatal(err)
	}
	says(t, td.Appraise(bundle, nonce, strict), []string{
		"\nwrong       not-proved: the policy doesn't waive", "strict.toml", "\nnot proved  ", "in the way)",
	}, "collateral, host-input")
}

// without is a text of a policy without its member of that name, a list.
func without(t *testing.T, text, name string) []byte {
	t.Helper()
	before, rest, found := strings.Cut(text, "\n"+name+" = [")
	_, after, closed := strings.Cut(rest, "]\n")
	if !found || !closed {
		t.Fatalf("the policy has no list %s", name)
	}
	return []byte(before + "\n" + after)
}

// TestBounds: however much is wrong, and whatever evidence calls itself, a card has at most
// ten lines, all printable.
func TestBounds(t *testing.T) {
	evil := strings.Repeat("\x1b[2Jtrusted\n\u202e<script>", 100)
	r := &verify.Result{
		Verdict: verify.NotTrusted, Reason: verify.StepTCB + ": " + evil, Hint: evil,
		Root: &verify.Root{Kind: "given", Name: evil}, TCB: &dcap.TCBLevel{Status: evil, Date: evil},
		Policy: []policy.Source{{File: evil, Name: evil, SignedBy: evil}, {File: evil}},
		Boot:   &policy.Boot{Name: evil}, Container: &policy.Container{Name: evil},
	}
	many := make([]verify.Comparison, 30)
	for i := range many {
		many[i] = verify.Comparison{What: evil, Want: evil, Got: evil + "x"}
	}
	for _, name := range []string{verify.StepTCB, verify.StepPower, verify.StepEvents, verify.StepTD, verify.StepNotProved} {
		r.Steps = append(r.Steps, verify.Step{Name: name, Outcome: verify.Fail, Detail: name + evil, Compared: many})
	}
	for range 100 {
		r.NotProved = append(r.NotProved, verify.Statement{Code: "x", Text: evil, Stands: true})
	}
	says(t, r, []string{"\nauthentic, not trusted, under a root that is given: ", "\nwrong       tcb: ", "\nwrong       and 3 more steps: events, td, not-proved", "\nnot proved "}, "\x1b", "\u202e")
	got := text(t, r)
	if n := strings.Count(got, "trusted\n"); n > 0 {
		t.Errorf("evidence begins %d lines of\n%s", n, got)
	}
	if len(got) > 16<<10 || !utf8.ValidString(got) || strings.ContainsFunc(got, func(c rune) bool { return c != '\n' && !unicode.IsPrint(c) }) {
		t.Errorf("%d bytes, or not printable:\n%s", len(got), got)
	}
}

// TestVectors: every recorded bundle has its card, good or forged.
func TestVectors(t *testing.T) {
	vectors := filepath.Join("..", "..", "..", "rpc", "vectors")
	var bundles []struct {
		File  string `json:"file"`
		Nonce string `json:"nonce"`
	}
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(vectors, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if err := json.Unmarshal(read("bundles.json"), &bundles); err != nil {
		t.Fatal(err)
	}
	roots, err := dcap.ParseRoots(read("bundles/root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	var verdicts []verify.Verdict
	for _, b := range bundles {
		nonce, err := hex.DecodeString(b.Nonce)
		if err != nil {
			t.Fatal(err)
		}
		opts := verify.Options{TrustRoots: roots, At: time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)}
		opts.Nonce = nonce
		r, err := verify.Appraise(t.Context(), read(b.File), opts)
		if err != nil {
			t.Fatal(b.File, err)
		}
		verdicts = append(verdicts, r.Verdict)
		says(t, r, []string{"\n" + string(r.Verdict), "\nwrong       ", "\nhint: ", "\nnot proved  "})
		lines := strings.Split(text(t, r), "\n")
		slices.Sort(lines)
		if twice := slices.Compact(slices.Clone(lines)); len(twice) != len(lines) {
			t.Errorf("%s: a line is there twice\n%s", b.File, text(t, r))
		}
	}
	for _, v := range []verify.Verdict{verify.NotTrusted, verify.NotAuthentic, verify.Malformed} {
		if !slices.Contains(verdicts, v) {
			t.Errorf("no vector is %s", v)
		}
	}
}
