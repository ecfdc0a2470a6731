package gate

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// A file under fs-verity may have any size. The VM, which has fs-verity, shows
// whether the request to the kernel is right.
func TestVerity(t *testing.T) {
	dir := overlay(t)
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

func TestVerityDigest(t *testing.T) {
	digest := func(algorithm, size uint16) string {
		var b [4 + maxVerityDigest]byte
		binary.NativeEndian.PutUint16(b[:], algorithm)
		binary.NativeEndian.PutUint16(b[2:], size)
		copy(b[4:], bytes.Repeat([]byte{0xab}, maxVerityDigest))
		return verityDigest(b)
	}
	for _, c := range []struct {
		algorithm, size uint16
		want            string
	}{
		{unix.FS_VERITY_HASH_ALG_SHA256, 32, "sha256:" + strings.Repeat("ab", 32)},
		{unix.FS_VERITY_HASH_ALG_SHA512, 64, "sha512:" + strings.Repeat("ab", 64)},
		{unix.FS_VERITY_HASH_ALG_SHA512, 65, ""},
		{3, 32, ""},
	} {
		if got := digest(c.algorithm, c.size); got != c.want {
			t.Errorf("%d, %d bytes: %q", c.algorithm, c.size, got)
		}
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := verityOf(int(f.Fd())); got != "" {
		t.Errorf("of a file without fs-verity: %q", got)
	}
}
