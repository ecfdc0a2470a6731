package main

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify/collateral/collateraltest"
	"github.com/cima-project/cima/hw/verify/verifytest"
	"github.com/cima-project/cima/rpc"
)

// intermediate is the second certificate of the evidence.
func intermediate(t *testing.T, bundle []byte) *x509.Certificate {
	t.Helper()
	e, _, err := rpc.DecodeEvidence(bundle)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(e.Platform.Certificates[1])
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestOnlineOfAMD: of an SNP guest's evidence verify --online asks AMD's service for one list, keeps
// it, and says what is wrong with a service that is not as it should be.
func TestOnlineOfAMD(t *testing.T) {
	dir := t.TempDir()
	root := filepath.Join(dir, "root-key.pem")
	guest := verifytest.Boot(t, sim.Config{Platform: hw.TEESNP, RootFile: root})
	nonce := []byte("nonce of a test!")
	bundle := guest.Evidence(guest.Launch("1", "one", "/bin/one"), nonce, nil)
	service := collateraltest.KDSOf(t, root, time.Now())
	server := httptest.NewServer(service)
	defer server.Close()
	for name, text := range map[string][]byte{"evidence.json": bundle, "root.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: service.Root.Raw})} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	try := func(code int, line string, says ...string) {
		t.Helper()
		var out bytes.Buffer
		args := strings.Fields(strings.NewReplacer("@", dir+"/", "URL", server.URL, "NONCE", hex.EncodeToString(nonce)).Replace(line))
		if got := run(t.Context(), args, strings.NewReader(""), &out, &out); got != code {
			t.Errorf("%s: exit %d, want %d\n%s", line, got, code, &out)
		}
		for _, s := range says {
			if !strings.Contains(out.String(), s) {
				t.Errorf("%s: no %q in\n%s", line, s, &out)
			}
		}
	}
	cache := func(name string) { t.Setenv("XDG_CACHE_HOME", filepath.Join(dir, name)) }
	const verify = "verify @evidence.json --nonce NONCE --trust-root @root.pem --verbose --online --kds URL"
	const trusts = " --trust-root @root.pem"

	cache("one")
	for range 2 {
		try(4, verify, "signed by the same root, good until", "no certificate of the chain is revoked")
	}
	if n := service.Asked.Load(); n != 1 {
		t.Errorf("the service was asked %d times", n)
	}
	try(0, "collateral show"+trusts, "VCEK list  milan  good until")
	try(0, "collateral check @evidence.json"+trusts, "VCEK list  milan  good until")
	try(0, "collateral fetch @evidence.json --to @files --kds URL"+trusts, "good until")
	try(4, "verify @evidence.json --nonce NONCE --trust-root @root.pem --verbose --collateral @files", "no certificate of the chain is revoked")
	try(0, "collateral fetch --line milan --kds URL"+trusts, "VCEK list  milan", "VLEK list  milan")
	try(3, "collateral fetch --line genoa --kds URL"+trusts, "404")
	try(1, "collateral fetch --line rome", "--line must be milan, genoa or turin")
	try(1, "collateral fetch --line milan --fmspc 50806f000000", "either EVIDENCE or --fmspc or --line must be given")
	try(1, "verify @evidence.json --nonce NONCE --kds URL", "--kds must come with --online")
	try(3, "collateral fetch @evidence.json --kds URL", "can't be used: bad: no trusted root signed the list") // AMD's roots

	// The intermediate is revoked.
	service.Revoked = []*big.Int{intermediate(t, bundle).SerialNumber}
	cache("revoked")
	try(2, verify, "revoked: SEV-Milan")

	service.Revoked = nil
	service.Until = time.Now().Add(-time.Minute)
	cache("expired")
	try(3, verify, "stale: its successor was due on ", "hint: ")
	service.SetBefore(func(w http.ResponseWriter, _ *http.Request) bool {
		http.Error(w, "slow down", http.StatusTooManyRequests)
		return true
	})
	cache("refused")
	try(3, verify, "the service answered 429", "hint: ")
	try(3, verify, "it is asked again after")
	server.Close()
	cache("absent")
	try(3, verify, "connection refused")
	cache("one") // what is kept counts
	try(4, verify, "no certificate of the chain is revoked")
}
