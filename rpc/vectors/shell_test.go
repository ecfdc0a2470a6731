package vectors

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/rpc"
)

// between is the text between two marks.
func between(t *testing.T, text, before, after string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, before)
	inside, _, closed := strings.Cut(rest, after)
	if !ok || !closed {
		t.Fatalf("nothing between %q and %q", before, after)
	}
	return inside
}

// The shell example of the README is that of cima-api(7), and it works: a
// container needs no SDK.
func TestShellExample(t *testing.T) {
	for _, tool := range []string{"socat", "jq"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("left out: no ", tool)
		}
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../man/cima-api.7.md")
	if err != nil {
		t.Fatal(err)
	}
	script := between(t, between(t, string(readme), "Without an SDK", "\nClients:"), "```sh\n", "```")
	indented := strings.ReplaceAll("    "+strings.ReplaceAll(strings.TrimSpace(script), "\n", "\n    "), "\t", "    ")
	if !strings.Contains(string(page), indented+"\n") {
		t.Errorf("the manual's example must be the README's:\n%s", indented)
	}

	s := newStage(t, "")
	run := func(more string) ([]byte, error) {
		c := exec.CommandContext(t.Context(), "sh", "-eu", "-c", script+more)
		c.Dir = s.dir
		c.Env = append(os.Environ(), rpc.SocketEnv+"="+s.socket())
		return c.CombinedOutput()
	}
	out, err := run("")
	if err != nil || !strings.Contains(string(out), `"host"`) {
		t.Fatalf("%v: %s", err, out)
	}
	bundle, err := os.ReadFile(s.path("host.json"))
	if err != nil {
		t.Fatal(err)
	}
	evidence, claims, err := rpc.DecodeEvidence(bundle)
	if err != nil {
		t.Fatal(err)
	}
	quote, err := os.ReadFile(s.path("quote.bin"))
	if err != nil || string(quote) != string(evidence.Quote) {
		t.Errorf("quote.bin must be the evidence's quote: %v", err)
	}
	root, err := os.ReadFile(filepath.Join(s.dir, "td/root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots, err := dcap.ParseRoots(root)
	if err != nil {
		t.Fatal(err)
	}
	r, err := verify.Appraise(t.Context(), bundle, verify.Options{Nonce: claims.Nonce, TrustRoots: roots})
	if err != nil || r.Verdict != verify.NotTrusted {
		t.Errorf("%v: %+v", err, r)
	}
	away := exec.CommandContext(t.Context(), "sh", "-c", script[:strings.Index(script, "nonce=")]+"ask WhoAmI")
	away.Env = append(os.Environ(), rpc.SocketEnv+"="+s.path("no.sock"))
	if out, err := away.CombinedOutput(); err == nil {
		t.Errorf("without a daemon ask succeeds: %s", out)
	}
	if out, err := run("ask GetQuote"); err == nil || !strings.Contains(string(out), "-32601: no method") {
		t.Errorf("an unknown method: %v: %s", err, out)
	}
}
