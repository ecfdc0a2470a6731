package daemon

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMakeDirRefusesWhatOthersCanWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	if err := makeDir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := makeDir(dir, 0o700); err == nil {
		t.Error("a directory that all can write was accepted")
	}
	link := dir + "-link"
	if err := os.Symlink("/", link); err != nil {
		t.Fatal(err)
	}
	if err := makeDir(link, 0o700); err == nil {
		t.Error("a symbolic link was followed")
	}
}
