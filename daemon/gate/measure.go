package gate

import (
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/hashing"
	"github.com/cima-project/cima/daemon/overlay"
	"github.com/cima-project/cima/daemon/procfs"
)

// Errors of Measure.
var (
	// ErrWritable says that a program has the file open for writing, or has a
	// writable mapping of it: what is hashed may not be what runs.
	ErrWritable = errors.New("somebody can write the file")

	// ErrTooLarge says that the file is larger than the limit.
	ErrTooLarge = errors.New("the file is too large")
)

// minAge is the least time since the last change of a file whose digest is cached:
// within one tick of the kernel's coarse clock a second change leaves no trace. It
// is longer than a tick, because clocks are set.
const minAge = time.Second

// maxCached is the most digests in the cache.
const maxCached = 8192

// cachedDigest is an entry of the cache.
type cachedDigest struct {
	digest [sha512.Size384]byte
	verity string
	lower  bool // the file is of a lower layer
}

// Content is what identifies the content of a file.
type Content struct {
	SHA384 *[sha512.Size384]byte // nil: the file is too large to hash, and has a Verity
	Verity string                // fs-verity's digest, "sha256:" or "sha512:" and lower-case hex; "": none
}

// overlayMount is an overlay and where the host has it mounted.
type overlayMount struct {
	overlay.Layers
	dir    string
	leases chan struct{} // slots for leases on it
}

// measurer hashes files, and caches digests.
type measurer struct {
	maxSize int64
	minAge  time.Duration
	verity  func(fd int) string // overlay.Verity, except in tests
	leases  chan struct{}       // slots for all leases
	hashing *hashing.Turns

	mu     sync.Mutex
	cache  map[overlay.File]cachedDigest
	layers map[uint64]overlayMount // by device
}

// Measure returns the SHA-384 of the file that h is about to execute, read through
// the descriptor that the kernel gave, not by a name. If the layer's file has an
// fs-verity digest, Measure returns that too; such a file may have any size, and a
// large one gets no SHA-384.
//
// Until the exec is done, Measure holds a read lease on the file (fcntl(2),
// F_SETLEASE), and one on the file of the upper layer (layers). The kernel gives a
// lease only while no program can write the file, by descriptor or mapping, and a
// program that opens it for writing has to wait.
//
// The cache finds a digest by inode, size and times. It is valid only under a
// lease: a writable mapping changes the content and none of these.
func (r *Roots) Measure(ctx context.Context, h *HeldExec) (Content, error) {
	m := &r.measurer
	if h.lease == nil {
		l, err := m.lease(ctx, h)
		if err != nil {
			return Content{}, err
		}
		h.lease = l
	}
	return m.content(ctx, h)
}

// MeasureProcess hashes the file that a process runs, which no program can write
// (execve(2), ETXTBSY). The path begins at the root of the file's mount. The caller
// checks that the pid is still of the same process.
func (r *Roots) MeasureProcess(ctx context.Context, pid int) (path string, digest [sha512.Size384]byte, err error) {
	at, err := unix.Open(fmt.Sprintf("/proc/%d/exe", pid), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", digest, err
	}
	defer unix.Close(at)
	h := HeldExec{fd: at}
	path = h.Path()
	if local, err := procfs.IsLocal(at, pid); err != nil || !local {
		// To open the file could take for ever.
		return path, digest, errors.Join(ErrUnmarkable, err)
	}
	fd, id, err := overlay.Open(at)
	if err != nil {
		return path, digest, err
	}
	defer unix.Close(fd)
	digest, err = r.measurer.hash(ctx, fd, id.Device)
	return path, digest, err
}

func (m *measurer) content(ctx context.Context, h *HeldExec) (Content, error) {
	fd := h.fd
	id, err := overlay.Identify(fd)
	if err != nil {
		return Content{}, err
	}
	m.mu.Lock()
	k, ok := m.cache[id]
	at, marked := m.layers[id.Device]
	minAge := m.minAge
	m.mu.Unlock()
	if ok && k.lower {
		return h.noteCacheable(id, k), nil
	}
	if !marked {
		return Content{}, overlay.ErrUnlocated
	}
	upper, verity, err := at.Locate(strings.TrimPrefix(h.Path(), at.dir), id, m.verity)
	if err != nil {
		return Content{}, err
	}
	if upper >= 0 {
		if err := h.lease.addUpper(upper); err != nil {
			return Content{}, err
		}
	}
	switch {
	case ok:
		return h.noteCacheable(id, k), nil
	case id.Size > m.maxSize && verity != "":
		return Content{Verity: verity}, nil
	case id.Size > m.maxSize:
		return Content{}, fmt.Errorf("%w: %d bytes, must be at most %d", ErrTooLarge, id.Size, m.maxSize)
	}
	old := time.Since(time.Unix(id.Ctime.Unix())) > minAge && time.Since(time.Unix(id.Mtime.Unix())) > minAge
	digest, err := m.hash(ctx, fd, id.Device)
	if err != nil {
		return Content{}, err
	}
	if again, err := overlay.Identify(fd); err != nil || again != id {
		return Content{}, errors.Join(ErrWritable, err)
	}
	now := cachedDigest{digest, verity, upper < 0}
	if !old {
		return now.content(), nil
	}
	m.store(id, now)
	return h.noteCacheable(id, now), nil
}

func (k cachedDigest) content() Content { return Content{&k.digest, k.verity} }

// noteCacheable notes the digest of a file that later execs may use.
func (h *HeldExec) noteCacheable(id overlay.File, k cachedDigest) Content {
	if id == h.lease.id {
		h.cacheable = &k.digest
	}
	return k.content()
}

func (m *measurer) store(id overlay.File, now cachedDigest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.cache) >= maxCached {
		clear(m.cache)
	}
	m.cache[id] = now
}

// setLayers sets the layers of a device, and removes the digests of a device that
// had the same number before.
func (m *measurer) setLayers(device uint64, at overlayMount) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.layers[device] = at
	for id := range m.cache {
		if id.Device == device {
			delete(m.cache, id)
		}
	}
}

func (m *measurer) hash(ctx context.Context, fd int, device uint64) (digest [sha512.Size384]byte, err error) {
	digest, err = m.hashing.Sum(ctx, strconv.FormatUint(device, 16), fd, m.maxSize)
	switch {
	case ctx.Err() != nil:
		err = ErrDeadline
	case errors.Is(err, hashing.ErrTooLarge):
		err = fmt.Errorf("%w: must have at most %d bytes", ErrTooLarge, m.maxSize)
	}
	return digest, err
}
