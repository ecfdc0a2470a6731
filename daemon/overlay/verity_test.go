package overlay

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

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
	if got := Verity(int(f.Fd())); got != "" {
		t.Errorf("of a file without fs-verity: %q", got)
	}
}
