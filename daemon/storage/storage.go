// Package storage answers: what do an engine's own files say of a container?
//
// They say of which image the container was made, which volumes were made for it alone,
// which labels it has, and whose network it shares. Only what root alone could have
// written counts (package trust), and an image's configuration only by its own digest. No
// engine is asked: one that waits for the daemon could not answer.
package storage

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/trust"
)

// Bounds of what is read: of containers.json a container takes about 700 bytes.
const (
	maxList        = 32 << 20
	maxImageConfig = 4 << 20
	maxContainer   = 4 << 20
	maxName        = 256
)

// Reader reads engines' files. It may be used from many goroutines.
type Reader struct {
	Trust trust.Trust
	Roots []string // of containers/storage (podman, cri-o), besides a bundle's; nil: the usual ones

	mu    sync.Mutex
	lists map[string]list // containers/storage's, by file
}

// Container is what is known of a container. The zero value knows nothing.
type Container struct {
	Image  *launch.ImageConfig // of which it was made
	Labels map[string]launch.Text

	Reference string   // the image's name as containerd's record has it
	Layers    []string // likewise, the image's diff ids

	// Network is the id of the container whose network this one has by the engine's
	// record; "" where it has one of its own, or where the record doesn't say.
	Network string

	dir       string          // the container's own directory
	volumes   string          // the directory of the engine's volumes
	nameless  map[string]bool // volumes that the engine's record gives no name; nil: it says nothing of them
	inherited bool            // some of these may be another container's
	ipc       string          // as Network, of the IPC namespace
}

// Anonymous reports whether the engine made a volume for this container alone: by its
// record if it has one, and because the volume was born after the container was.
// Whoever names a volume by 64 digits, or hands on another container's, has one that was
// there before.
//
// A volume on which its driver's options mount something else is not anonymous: the
// launch would not say what.
func (c Container) Anonymous(volume string) bool {
	if !launch.IsID(volume) || c.nameless != nil && !c.nameless[volume] || mountedOver(path.Join(c.volumes, volume)) {
		return false
	}
	if c.nameless != nil && !c.inherited {
		return true
	}
	own, ok := born(c.dir)
	its, ok2 := born(path.Join(c.volumes, volume))
	return ok && ok2 && !before(its, own)
}

// Shares reports whether the engine's record says that the container has the network or
// the IPC namespace of the container with this id.
func (c Container) Shares(id string) bool {
	return id != "" && (id == c.Network || id == c.ipc)
}

// mountedOver reports whether something is mounted on a volume's data. It asks nobody who
// serves it.
func mountedOver(volume string) bool {
	const quietly = unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT | unix.AT_STATX_DONT_SYNC
	var data, above unix.Statx_t
	if unix.Statx(unix.AT_FDCWD, volume+"/_data", quietly, 0, &data) != nil {
		return false // there is none, or not yet
	}
	if data.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return data.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
	}
	err := unix.Statx(unix.AT_FDCWD, volume, quietly, 0, &above) // Linux before 5.8
	return err != nil || data.Dev_major != above.Dev_major || data.Dev_minor != above.Dev_minor
}

// born returns when a file was made, false where the file system doesn't say.
func born(name string) (unix.StatxTimestamp, bool) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, name, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BTIME, &st)
	return st.Btime, err == nil && st.Mask&unix.STATX_BTIME != 0
}

func before(a, b unix.StatxTimestamp) bool {
	return a.Sec < b.Sec || a.Sec == b.Sec && a.Nsec < b.Nsec
}

// content reads a file of root's that has the name and the bytes of its own digest.
func (r *Reader) content(dir, digest string, limit int64, uid uint32) ([]byte, error) {
	id, ok := strings.CutPrefix(digest, "sha256:")
	if !ok || !launch.IsID(id) {
		return nil, fmt.Errorf("%.100q must be a SHA-256 digest", digest)
	}
	return r.digested(path.Join(dir, id), id, limit, uid)
}

// digested reads a file whose bytes must have a digest, and that this user must own.
func (r *Reader) digested(file, id string, limit int64, uid uint32) ([]byte, error) {
	raw, _, owner, err := r.Trust.ReadFile(file, limit)
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(raw); hex.EncodeToString(sum[:]) != id || owner != uid {
		return nil, fmt.Errorf("%s must have the digest sha256:%s, and uid %d must own it", file, id, uid)
	}
	return raw, nil
}
