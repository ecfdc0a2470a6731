package sim

import (
	"os"
	"path/filepath"
	"testing"
)

func TestRootFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "root.pem")
	first := bootMachine(t, Config{RootFile: path})
	second := bootMachine(t, Config{RootFile: path})
	if string(first.RootPEM()) != string(second.RootPEM()) {
		t.Error("two boots with one root file have two roots")
	}
	if err := judge(quoteOf(t, second, [64]byte{}), first.RootPEM()); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("root file: %v, %v", info.Mode(), err)
	}
	os.Chmod(path, 0o644)
	if _, err := Boot(Config{RootFile: path}); err == nil {
		t.Error("a key that others can read was accepted")
	}
	os.Chmod(path, 0o600)
	for _, text := range []string{"", "nonsense", string(first.RootPEM()) + string(first.RootPEM())} {
		os.WriteFile(path, []byte(text), 0o600)
		if _, err := Boot(Config{RootFile: path}); err == nil {
			t.Errorf("%.20q was accepted as a root", text)
		}
	}
}
