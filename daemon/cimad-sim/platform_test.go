package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/cima-project/cima/daemon/daemontest"
	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/rpc"
)

// evidenceOn is what a daemon on a simulated machine of this platform gives, and the machine's root.
func evidenceOn(t *testing.T, program, platform string, nonce []byte) (bundle []byte, root *x509.Certificate) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "cima-p")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, args := range [][]string{
		{"td", "--dir", filepath.Join(dir, "td"), "--platform", platform},
		{"--td", filepath.Join(dir, "td", socketFile), "--runtime-dir", dir},
	} {
		c := exec.Command(program, args...)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Process.Signal(syscall.SIGTERM); c.Wait() })
		if args[0] == "td" {
			daemontest.Eventually(t, "the machine boots", func() bool { return runs(filepath.Join(dir, "td", socketFile)) })
		}
	}
	client, err := rpc.Dialer{Path: filepath.Join(dir, "cima", "cima.sock"), Wait: true}.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if bundle, err = client.GetEvidence(t.Context(), rpc.EvidenceParams{Nonce: nonce}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "td", rootFile))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if root, err = x509.ParseCertificate(block.Bytes); err != nil {
		t.Fatal(err)
	}
	return bundle, root
}

// Evidence of each platform is authentic under its own root, and under no other's; and
// never as another platform's, whatever of it is put into another's place.
func TestPlatforms(t *testing.T) {
	program := filepath.Join(t.TempDir(), "cimad-sim")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, text)
	}
	nonce := []byte("one nonce for all")
	platforms := []string{hw.TEETDX, hw.TEEAzureTDX, hw.TEESNP, hw.TEEAzureSNP}
	bundles, roots := make(map[string][]byte), make(map[string]*x509.Certificate)
	var all []*x509.Certificate
	for _, platform := range platforms {
		bundles[platform], roots[platform] = evidenceOn(t, program, platform, nonce)
		all = append(all, roots[platform])
	}
	verdict := func(bundle []byte, roots ...*x509.Certificate) verify.Verdict {
		r, err := verify.Appraise(context.Background(), bundle, verify.Options{Nonce: nonce, TrustRoots: roots})
		if err != nil {
			return ""
		}
		return r.Verdict
	}
	forged := 0
	for _, platform := range platforms {
		for _, other := range platforms {
			if got := verdict(bundles[platform], roots[other]); (got == verify.NotTrusted) != (platform == other) {
				t.Errorf("evidence of %s under the root of %s: %q", platform, other, got)
			}
			if platform == other {
				continue
			}
			for _, members := range [][]string{{"tee"}, {"quote"}, {"platform"}, {"tee", "quote"}, {"tee", "platform"}, {"quote", "platform"}, {"tee", "quote", "platform"}, {"claims"}, {"tee", "claims"}} {
				mixed := mix(t, bundles[platform], bundles[other], members)
				if bytes.Equal(mixed, bundles[platform]) {
					continue // both lack it
				}
				forged++
				if got := verdict(mixed, all...); got == verify.NotTrusted || got == verify.Trusted {
					t.Errorf("evidence of %s with %v of %s: %q", platform, members, other, got)
				}
			}
		}
	}
	if forged < 40 {
		t.Errorf("only %d were tried", forged)
	}
}

// mix is a bundle with some members of another, or without them where the other has none.
func mix(t *testing.T, bundle, other []byte, members []string) []byte {
	t.Helper()
	var a, b map[string]json.RawMessage
	if json.Unmarshal(bundle, &a) != nil || json.Unmarshal(other, &b) != nil {
		t.Fatal("no JSON")
	}
	same := true
	for _, name := range members {
		same = same && bytes.Equal(a[name], b[name])
		if b[name] == nil {
			delete(a, name)
		} else {
			a[name] = b[name]
		}
	}
	if same {
		return bundle
	}
	mixed, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	return mixed
}
