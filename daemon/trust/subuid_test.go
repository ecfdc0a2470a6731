package trust

import (
	"os"
	"path/filepath"
	"testing"
)

func TestSubUIDs(t *testing.T) {
	s := &SubUIDs{File: filepath.Join(t.TempDir(), "subuid")}
	if _, ok := s.Owner(100000); ok {
		t.Error("without the file somebody has it")
	}
	if err := os.WriteFile(s.File, []byte("1000:100000:65536\nno-such-user-here:200000:65536\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for uid, want := range map[uint32]bool{99999: false, 100000: true, 165535: true, 165536: false, 200000: false, 0: false} {
		if owner, ok := s.Owner(uid); ok != want || ok && owner != 1000 {
			t.Errorf("%d: %d, %t", uid, owner, ok)
		}
	}
}

func FuzzSubUIDs(f *testing.F) {
	f.Add("1000:100000:65536\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, r := range parseSubUIDs(text, func(string) (uint32, bool) { return 9, true }) {
			if r.first == 0 {
				t.Errorf("root is given to %d", r.owner)
			}
		}
	})
}
