package execs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A stock kernel's log has no cgroups: it can't be a source of exec events.
func TestStockIMAIsNoSource(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "binary_runtime_measurements"), []byte("10 91f34b5c671d73504b274a919661cf80dab1e127 ima-ng sha1:1801e1be3e65ef1eaa5c16617bec8f1274eaf6b3 boot_aggregate\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "runtime_measurements_count"), []byte("1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openIMASource(dir); err == nil || !strings.Contains(err.Error(), "ima-cgpath") {
		t.Errorf("error %v", err)
	}
	if _, err := openIMASource(t.TempDir()); err == nil {
		t.Error("no log, and no error")
	}
}
