package daemon

import (
	"os"
	"testing"
)

func TestAgentKeySurvivesInItsMemfd(t *testing.T) {
	key, err := newAgentKey()
	if err != nil {
		t.Fatal(err)
	}
	again, err := loadAgentKey(key.memfd)
	if err != nil || again.digest != key.digest {
		t.Fatalf("loaded again: %v", err)
	}
	if _, err := key.memfd.WriteAt([]byte{1}, 0); err == nil {
		t.Error("the sealed key could be written")
	}
	f, err := os.CreateTemp(t.TempDir(), "key")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, 32)); err != nil {
		t.Fatal(err)
	}
	if _, err := loadAgentKey(f); err == nil {
		t.Error("a key from a plain file was accepted")
	}
}
