package gate

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// A file under fs-verity may have any size. The VM, which has fs-verity, shows
// whether the request to the kernel is right.
func TestVerity(t *testing.T) {
	dir := mountedOverlay(t)
	r, s := watch(t, dir)
	large, small := filepath.Join(dir, "large"), filepath.Join(dir, "program")
	if err := os.WriteFile(large, append(exiting(t, 0), make([]byte, 65<<20)...), 0o755); err != nil {
		t.Fatal(err)
	}
	var asked atomic.Value
	for _, has := range []string{"", "sha256:aa"} {
		r.measurer.mu.Lock()
		r.measurer.verity = func(fd int) string {
			asked.Store((&HeldExec{fd: fd}).Path())
			return has
		}
		r.measurer.mu.Unlock()
		run(large)
		got, _ := s.last()
		if got.verity != has || got.digest != [48]byte{} || (got.err == nil) != (has != "") || has == "" && !errors.Is(got.err, ErrTooLarge) {
			t.Errorf("large, fs-verity's digest %q: %+v", has, got)
		}
		if path, _ := asked.Load().(string); !strings.HasSuffix(path, "/large") || strings.HasPrefix(path, dir) {
			t.Errorf("asked of %q, not of a layer's own file", path)
		}
	}
	for range 2 { // first measured, then from the cache
		run(small)
		if got, _ := s.last(); got.err != nil || got.verity != "sha256:aa" || got.digest != digestOf(t, small) {
			t.Errorf("small: %+v", got)
		}
	}
}
