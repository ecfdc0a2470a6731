package main

import (
	"bytes"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tdx-guest/testing/testdata"

	"github.com/cima-project/cima/hw/verify/collateral/collateraltest"
)

// TestCollateral gets, keeps, shows and checks the documents on a real quote's platform.
func TestCollateral(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "cache"))
	service := collateraltest.New(t, time.Now())
	service.Kind = "50806f000000" // the quote's
	server := httptest.NewServer(service)
	defer server.Close()
	for name, b := range map[string][]byte{
		"quote": testdata.RawQuote, "root.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: service.Root.Raw}), "other": []byte("text"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	try := func(code int, line string, says ...string) {
		t.Helper()
		var out bytes.Buffer
		args := strings.Fields(strings.NewReplacer("@", dir+"/", "URL", server.URL).Replace(line))
		if got := run(t.Context(), args, strings.NewReader(""), &out, &out); got != code {
			t.Errorf("%s: exit %d, want %d\n%s", line, got, code, &out)
		}
		for _, s := range says {
			if !strings.Contains(out.String(), s) {
				t.Errorf("%s: no %q in\n%s", line, s, &out)
			}
		}
	}
	const root = " --trust-root @root.pem"
	try(0, "collateral show"+root, "has no documents")
	try(4, "collateral check @quote"+root, "TCB info", "missing: tcb-50806f000000.kept is not in the cache", "hint: `cimactl collateral fetch")
	try(0, "collateral fetch @quote --pccs URL"+root, "TCB info     50806f000000  good until", "PCK CRL      platform")
	try(0, "collateral check @quote"+root, "root CRL")
	try(0, "collateral show --json"+root, `"document":"QE identity"`, `"state":"good"`, `"evaluation":17`)
	try(4, "collateral check @quote --at 2099-01-01T00:00:00Z"+root, "bad: ") // the signers' certificates have ended
	try(4, "collateral check @quote", "its signer is not trusted")
	try(4, "collateral check @quote --collateral @files"+root, "missing: open ")
	try(0, "collateral fetch @quote --to @files --pccs URL"+root, "good until")
	try(0, "collateral check @quote --collateral @files"+root, "good until")
	try(0, "collateral show @files"+root, "root CRL")
	try(0, "collateral fetch --fmspc 50806f000000 --pccs URL"+root, "good until")
	try(1, "collateral fetch --pccs URL", "either EVIDENCE or --fmspc or --line must be given")
	try(1, "collateral fetch --fmspc 50806F000000", "12 lower-case hex digits")
	try(1, "collateral fetch --fmspc 50806f000000 --ca x", "platform or processor")
	try(5, "collateral check @other", "neither evidence nor a quote")

	service.Kind = "00806f050000"
	try(3, "collateral fetch @quote --pccs URL"+root, "foreign: it is of 00806f050000, and must be of 50806f000000")
	service.SetBefore(func(w http.ResponseWriter, _ *http.Request) bool {
		http.Error(w, "no", http.StatusServiceUnavailable)
		return true
	})
	try(3, "collateral fetch @quote --pccs URL"+root, "503", "hint: ")
	try(0, "collateral check @quote"+root, "good until") // a failure takes nothing away
}
