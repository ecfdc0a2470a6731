package signers

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSignedBySSHKeygen: what OpenSSH signs is accepted, and what OpenSSH refuses isn't.
func TestSignedBySSHKeygen(t *testing.T) {
	if _, err := exec.LookPath("ssh-keygen"); err != nil {
		t.Skip("left out: no ssh-keygen on this machine (openssh-client)")
	}
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	policy := []byte("cima_policy = 2\nname = \"signed\"\n")
	read := func(name string) string {
		t.Helper()
		text, err := os.ReadFile(file(name))
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(text))
	}
	keygen := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ssh-keygen", args...).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen %v: %v\n%s", args, err, out)
		}
	}
	if err := os.WriteFile(file("policy.toml"), policy, 0o600); err != nil {
		t.Fatal(err)
	}
	sign := func(key, namespace string) []byte {
		t.Helper()
		os.Remove(file("policy.toml.sig"))
		keygen("-Y", "sign", "-q", "-f", file(key), "-n", namespace, file("policy.toml"))
		return []byte(read("policy.toml.sig") + "\n")
	}
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		keygen("-q", "-t", kind, "-N", "", "-f", file(kind))
	}
	keygen("-q", "-t", "ed25519", "-N", "", "-f", file("other"))
	at := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	check := func(keys string, text, signature []byte) (string, error) {
		a, err := Parse([]byte(keys))
		if err != nil {
			t.Fatalf("%q: %v", keys, err)
		}
		return a.Check(text, signature, at)
	}
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		if who, err := check("# team\n\nsec@example.org "+read(kind+".pub")+"\n", policy, sign(kind, Namespace)); err != nil || who != "sec@example.org" {
			t.Errorf("%s: %q, %v", kind, who, err)
		}
	}
	good, key := sign("ed25519", Namespace), read("ed25519.pub")
	for name, c := range map[string]struct {
		keys      string
		text, sig []byte
		says      string
	}{
		"another's key":      {"sec " + read("other.pub"), policy, good, "is no allowed signer"},
		"another namespace":  {"sec " + key, policy, sign("ed25519", "file"), `is for "file", and must be for "cima-policy"`},
		"another text":       {"sec " + key, append(policy, '\n'), good, "doesn't hold"},
		"cut":                {"sec " + key, policy, good[:len(good)/2], "can't be read"},
		"none":               {"sec " + key, policy, nil, "can't be read"},
		"large":              {"sec " + key, policy, make([]byte, MaxSignature+1), "at most"},
		"not yet":            {"sec valid-after=\"20270101Z\" " + key, policy, good, "counts from 2027-01-01"},
		"no more":            {"sec valid-before=\"20261130120000Z\" " + key, policy, good, "counted until 2026-11-30"},
		"for something else": {"sec namespaces=\"file,git\" " + key, policy, good, "may not sign"},
	} {
		if who, err := check(c.keys, c.text, c.sig); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %q, %v; want %q", name, who, err, c.says)
		}
	}
	for _, keys := range []string{
		"sec namespaces=\"cima-policy\",valid-after=\"20260101Z\",valid-before=\"20270101Z\" " + key,
		"\"sec,other team\" " + key,
		"sec valid-before=\"20200101\" " + key + "\nsec " + key, // the second line counts
	} {
		if who, err := check(keys, policy, good); err != nil {
			t.Errorf("%q: %q, %v", keys, who, err)
		}
	}
}

func TestKeysThatAreRefused(t *testing.T) {
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJKHq2Wc4DsLDw1xD2k3Ua0uLz3h6l0kPZ9O9u6o2Jqk"
	for text, says := range map[string]string{
		"":                                     "no key is in it",
		"# nothing":                            "no key is in it",
		"sec":                                  "line 1: a line must have",
		key:                                    "line 1: the key can't be read",
		"sec cert-authority " + key:            "line 1: cert-authority is not supported",
		"a " + key + "\nb from=\"x\" " + key:   `line 2: unknown option "from"`,
		"sec valid-after=\"soon\" " + key:      "line 1: \"soon\" must be a time",
		"sec valid-after=\"20261399Z\" " + key: "line 1: ",
		strings.Repeat("x", maxLine+1):         "line 1: ",
	} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.60q: %v; want %q", text, err, says)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("sec ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJKHq2Wc4DsLDw1xD2k3Ua0uLz3h6l0kPZ9O9u6o2Jqk"), []byte("-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----\n"))
	f.Fuzz(func(t *testing.T, keys, signature []byte) {
		a, err := Parse(keys)
		if err != nil {
			return
		}
		if who, err := a.Check([]byte("text"), signature, time.Now()); err == nil {
			t.Errorf("a signature by %q out of nothing", who)
		}
	})
}
