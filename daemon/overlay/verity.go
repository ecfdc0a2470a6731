package overlay

import (
	"encoding/binary"
	"encoding/hex"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxVerityDigest is the length of fs-verity's longest digest, of SHA-512.
const maxVerityDigest = 64

// Verity returns the digest by which fs-verity guards a file's content, as
// "sha256:…" or "sha512:…" in lower-case hex, and "" if the file has none. fd must be
// of the layer's file: an overlay does not pass the request on
// (Documentation/filesystems/fsverity.rst, FS_IOC_MEASURE_VERITY).
func Verity(fd int) string {
	var b [4 + maxVerityDigest]byte // struct fsverity_digest, in the machine's byte order
	binary.NativeEndian.PutUint16(b[2:], maxVerityDigest)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.FS_IOC_MEASURE_VERITY, uintptr(unsafe.Pointer(&b)))
	if errno != 0 { // ENODATA, ENOTTY, EOPNOTSUPP: file, file system or kernel has no fs-verity
		return ""
	}
	return verityDigest(b)
}

func verityDigest(b [4 + maxVerityDigest]byte) string {
	size := int(binary.NativeEndian.Uint16(b[2:]))
	var name string
	switch binary.NativeEndian.Uint16(b[:]) {
	case unix.FS_VERITY_HASH_ALG_SHA256:
		name = "sha256"
	case unix.FS_VERITY_HASH_ALG_SHA512:
		name = "sha512"
	default:
		return ""
	}
	if size > maxVerityDigest {
		return ""
	}
	return name + ":" + hex.EncodeToString(b[4:4+size])
}
