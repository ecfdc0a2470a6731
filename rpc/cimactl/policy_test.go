package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const smallPolicy = "cima_policy = 2\n[image.web]\ndigests = [\"sha256:1111111111111111111111111111111111111111111111111111111111111111\"]\n" +
	"[[container]]\nname = \"web\"\nimage = \"web\"\n"

// TestPolicyDiff: the exit code says whether more is trusted.
func TestPolicyDiff(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a": smallPolicy, "commented": "# a comment\n" + smallPolicy, "bad": "cima_policy = 1\n",
		"more": smallPolicy + "[power]\nallow = [\"privileged\"]\n", "less": smallPolicy + "boot = \"x\"\n",
		"revoked": smallPolicy + "[[revoked]]\ndigest = \"sha256:2222222222222222222222222222222222222222222222222222222222222222\"\nwhy = \"CVE\"\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		line string
		code int
		says string
	}{
		{"@a @commented", 0, ""},
		{"@a @more", 4, `more  [power]  allow has "privileged" now`},
		{"@more @a", 0, `less  [power]  allow has "privileged" no more`},
		{"@a @revoked", 0, "less  [[revoked]]  is new"},
		{"@a @more --json", 4, `[{"effect":"more","where":"[power]","what":"allow has \"privileged\" now"}]`},
		{"@a @bad", 1, "cima_policy must be 2"},
		{"@a @less", 1, "there is no [[boot]]"},
		{"@a @none", 1, "no such file"},
		{"- -", 1, "must not both come from stdin"},
	} {
		code, out, errs := inDir(dir, "policy diff "+c.line)
		if code != c.code || !strings.Contains(out+errs, c.says) || c.says == "" && out != "" {
			t.Errorf("%s: exit %d, not %d, or %q missing in\n%s%s", c.line, code, c.code, c.says, out, errs)
		}
	}
}

// TestSignedPolicy: without the signature that is asked for there is no verdict.
func TestSignedPolicy(t *testing.T) {
	if _, err := exec.LookPath("ssh-keygen"); err != nil {
		t.Skip("left out: no ssh-keygen on this machine (openssh-client)")
	}
	dir := captured(t)
	file := func(name string) string { return filepath.Join(dir, name) }
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(file(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("p.toml", smallPolicy)
	put("revoked.toml", "cima_policy = 2\n[[revoked]]\ndigest = \"sha256:2222222222222222222222222222222222222222222222222222222222222222\"\nwhy = \"CVE\"\n")
	keygen := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ssh-keygen", args...).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen %v: %v\n%s", args, err, out)
		}
	}
	keygen("-q", "-t", "ed25519", "-N", "", "-f", file("key"))
	public, err := os.ReadFile(file("key.pub"))
	if err != nil {
		t.Fatal(err)
	}
	put("keys", "sec@example.org "+string(public))
	put("nobody", "# none\n")
	try := func(code int, line string, says ...string) {
		t.Helper()
		got, out, errs := inDir(dir, "verify --quote @quote --trust-root @root.pem "+line)
		if got != code {
			t.Errorf("%s: exit %d, not %d\n%s%s", line, got, code, out, errs)
		}
		for _, s := range says {
			if !strings.Contains(out+errs, s) {
				t.Errorf("%s: no %q in\n%s%s", line, s, out, errs)
			}
		}
	}
	const keys = " --policy-keys @keys"
	try(1, "--policy-keys @keys", "--policy-keys must come with --policy")
	try(1, "--policy @p.toml"+keys, "must be signed: there is no", "hint: the signer writes", "ssh-keygen -Y sign -n cima-policy")
	keygen("-Y", "sign", "-q", "-f", file("key"), "-n", "file", file("p.toml"))
	try(1, "--policy @p.toml"+keys, `is for "file", and must be for "cima-policy"`)
	os.Remove(file("p.toml.sig"))
	keygen("-Y", "sign", "-q", "-f", file("key"), "-n", "cima-policy", file("p.toml"))
	try(4, "--json --policy @p.toml"+keys, `"signed_by":"sec@example.org"`)
	try(1, "--policy @p.toml --policy @revoked.toml"+keys, "there is no", "revoked.toml.sig")
	keygen("-Y", "sign", "-q", "-f", file("key"), "-n", "cima-policy", file("revoked.toml"))
	try(4, "--policy @p.toml --policy @revoked.toml"+keys, "authentic, not trusted")
	try(1, "--policy @p.toml --policy-keys @nobody", "no key is in it", "hint: ssh-keygen(1)")
	text, err := os.ReadFile(file("p.toml"))
	if err != nil {
		t.Fatal(err)
	}
	put("p.toml", string(bytes.Replace(text, []byte("1111"), []byte("1112"), 1)))
	try(1, "--policy @p.toml"+keys, "doesn't hold")
}

// TestExplain: the facts that a policy wants, met or not, and what is not proved.
func TestExplain(t *testing.T) {
	dir := t.TempDir()
	bundles := filepath.Join("..", "vectors", "bundles")
	evidence, root := filepath.Join(bundles, "container.json"), filepath.Join(bundles, "root.pem")
	try := func(code int, args []string, says ...string) string {
		t.Helper()
		var out bytes.Buffer
		args = append(args, "--trust-root", root, "--at", "2026-11-30T00:00:00Z")
		if got := run(t.Context(), args, strings.NewReader(""), &out, &out); got != code {
			t.Errorf("%q: exit %d, not %d\n%s", args, got, code, &out)
		}
		for _, s := range says {
			if !strings.Contains(out.String(), s) {
				t.Errorf("%q: no %q in\n%s", args, s, &out)
			}
		}
		return out.String()
	}
	policy := filepath.Join(dir, "p.toml")
	text := try(0, []string{"policy", "init", evidence, "--waive", "collateral,host-input-unknown"})
	put := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(policy, text)
	try(0, []string{"policy", "explain", policy, evidence}, "trusted", "boot: as first seen", "container: first seen 1",
		"caller-values: pass", "  met     TDATTRIBUTES: sept-ve-disable, by ", "  waived     collateral:", "  told       volumes:")
	put(policy, strings.Replace(text, "launch = \"", "launch = \"00", 1)) // too long
	try(1, []string{"policy", "explain", policy, evidence}, "96 lower-case hex digits")
	put(policy, regexp.MustCompile(`(?m)^digests = ".*"`).ReplaceAllString(text, `digests = "sha256:`+strings.Repeat("1", 64)+`"`))
	try(4, []string{"policy", "explain", policy, evidence}, "caller-values: fail", "image is sha256:3120", "want vectors-relay", "in the way caller-values")

	revoked := filepath.Join(dir, "revoked.toml")
	image := regexp.MustCompile(`sha256:[0-9a-f]{64}`).FindString(text)
	put(revoked, "cima_policy = 2\n[[revoked]]\ndigest = \""+image+"\"\nwhy = \"CVE-2026-4242\"\n")
	put(policy, text)
	says := []string{"CVE-2026-4242"}
	try(4, []string{"policy", "test", policy, evidence, "--revocations", revoked}, says...)
	try(4, []string{"policy", "explain", policy, evidence, "--revocations", revoked}, append(says, "hint: the policy refuses it whatever else it says")...)
}
