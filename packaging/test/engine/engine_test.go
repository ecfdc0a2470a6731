package engine

import (
	"archive/tar"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// An engine is given a layer of the program alone, and its last word is told.
func TestImport(t *testing.T) {
	dir := t.TempDir()
	program, got := filepath.Join(dir, "program"), filepath.Join(dir, "layer")
	if err := os.WriteFile(program, []byte("#!text"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Import(exec.Command("sh", "-c", `cat >"$0"`, got), program, "app"); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(got)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := tar.NewReader(f)
	h, err := r.Next()
	if err != nil || h.Name != "app" || h.Mode != 0o755 {
		t.Fatalf("%+v, %v", h, err)
	}
	if text, err := io.ReadAll(r); err != nil || string(text) != "#!text" {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("there is more: %v", err)
	}
	err = Import(exec.Command("sh", "-c", "cat >/dev/null; echo first; echo why; exit 1"), program, "app")
	if err == nil || !strings.HasSuffix(err.Error(), ": why") {
		t.Errorf("%v", err)
	}
	if err := Import(exec.Command("true"), filepath.Join(dir, "none"), "app"); !os.IsNotExist(err) {
		t.Errorf("no program: %v", err)
	}
}
