package services

import (
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/ledger/ledgertest"
	"github.com/cima-project/cima/logs"
)

// A service is measured by the bytes that run, not by the bytes at its path by
// now, and again when it is restarted with other bytes or arguments.
func TestSystemServices(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("left out: needs root: only its processes are services")
	}
	l := ledgertest.Open(t)
	program := filepath.Join(t.TempDir(), "service")
	copyFile(t, "/bin/sleep", program)
	w := NewWatcher(l, slog.New(slog.DiscardHandler))
	rules := []config.SystemRule{{Path: program, Arguments: true}}
	start := func(args ...string) {
		c := exec.Command(program, args...)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	}
	survey := func() (found []logs.SystemBody) {
		t.Helper()
		if err := w.survey(t.Context(), rules); err != nil {
			t.Fatal(err)
		}
		for _, e := range ledgertest.Events(t, l, "", logs.OpSystem) {
			var x logs.SystemBody
			if err := json.Unmarshal(e.Body(), &x); err != nil {
				t.Fatal(err)
			}
			found = append(found, x)
		}
		return found
	}
	start("1000")
	want := fileDigest(t, program)
	if err := os.Remove(program); err != nil { // the old bytes keep running
		t.Fatal(err)
	}
	got := survey()
	if len(got) != 1 || got[0].Path != program || got[0].SHA384 != want || len(got[0].Argv) != 2 || got[0].Argv[1] != "1000" {
		t.Fatalf("events %+v", got)
	}
	if again := survey(); len(again) != 1 {
		t.Errorf("logged twice: %+v", again)
	}
	copyFile(t, "/bin/sleep", program)
	start("2000")
	if more := survey(); len(more) != 2 || more[1].Argv[1] != "2000" {
		t.Errorf("after another start: %+v", more)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o755); err != nil {
		t.Fatal(err)
	}
}

func fileDigest(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha512.New384()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}
