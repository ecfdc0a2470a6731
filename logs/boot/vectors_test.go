package boot

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// moduleFile reads a file of a Go module that this one requires. Those modules hold real
// logs and quotes. A release tarball has the files in vendor/.
func moduleFile(t testing.TB, module, path string) []byte {
	t.Helper()
	if b, err := os.ReadFile(filepath.Join("../../vendor", module, path)); err == nil {
		return b
	}
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		t.Fatalf("go list -m %s: %v", module, err)
	}
	b, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), path))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	modTDX = "github.com/google/go-tdx-guest"
	modLog = "github.com/google/go-eventlog"
)

func moduleCCEL(t testing.TB, name string) []byte {
	return moduleFile(t, modLog, "testdata/eventlogs/ccel/"+name)
}

// quoteRTMRs are RTMR0–3 of a quote of version 4, or of version 5 with body type 2 (Intel TDX DCAP Quoting Library API, appendix A.3).
func quoteRTMRs(quote []byte) Registers {
	const header, rtmr0 = 48, 328
	var r Registers
	for i := range r {
		r[i] = [48]byte(quote[header+rtmr0+48*i:])
	}
	return r
}
