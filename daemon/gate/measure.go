package gate

import (
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Errors of Measure.
var (
	// ErrWritable says that somebody has the file open for writing, or has
	// a writable mapping of it: whatever is hashed may not be what runs.
	ErrWritable = errors.New("somebody can write the file")

	// ErrTooLarge says that the file is larger than the bound.
	ErrTooLarge = errors.New("the file is too large")
)

// A digest is kept in memory only of a file that changed this long before it
// was read: within one tick of the kernel's coarse clock a second change
// leaves no trace. Longer than a tick, for clocks are set.
const minAge = time.Second

// maxCached bounds the digests that are remembered.
const maxCached = 8192

// fileID is all by which a change of a file shows in its metadata.
type fileID struct {
	dev, ino     uint64
	size         int64
	mtime, ctime unix.Timespec
}

type cachedDigest struct {
	digest [sha512.Size384]byte
	verity string
	lower  bool // of a lower layer
}

// Content is what a file is known by.
type Content struct {
	SHA384 *[sha512.Size384]byte // nil: too large to be hashed, but it has a Verity
	Verity string                // fs-verity's digest of it, "sha256:…"; "": it has none
}

// overlayMount is an overlay where the host has it.
type overlayMount struct {
	layers
	dir    string
	leases chan struct{} // slots of those that are kept
}

// measurer hashes files, each content once.
type measurer struct {
	maxSize int64
	verity  func(fd int) string // the kernel's word: verityOf
	leases  chan struct{}       // slots of all

	mu     sync.Mutex
	cache  map[fileID]cachedDigest
	layers map[uint64]overlayMount // by device
}

// Measure returns the SHA-384 of the file that h is about to execute, read
// through the descriptor that the kernel gave: not by a name. Where the layer's
// own file has an fs-verity digest, it has that too, and a file of any size may
// do without the other. While it reads,
// and until the exec is through, it holds a read lease (fcntl(2), F_SETLEASE):
// it is only given while nobody can write the file, by descriptor or mapping,
// and whoever opens it for writing meanwhile has to wait.
//
// On an overlay it holds one on the file of the upper layer too (layers).
//
// A digest is remembered by inode, size and times, and counts only while a
// lease can be had: a writable mapping that was dirtied before changes
// content without changing those.
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

// MeasureProcess hashes what a process runs already, and whose bytes can't be
// written therefore (execve(2), ETXTBSY). The path is as the file's own mount
// has it. Whether the process is still the same is for the caller to check.
func (r *Roots) MeasureProcess(ctx context.Context, pid int) (path string, digest [sha512.Size384]byte, err error) {
	at, err := unix.Open(fmt.Sprintf("/proc/%d/exe", pid), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", digest, err
	}
	defer unix.Close(at)
	h := HeldExec{fd: at}
	path = h.Path()
	var fs unix.Statfs_t
	if err := unix.Fstatfs(at, &fs); err != nil || fs.Type == unix.FUSE_SUPER_MAGIC || fs.Type == unix.NFS_SUPER_MAGIC {
		// Opening it could wait for ever.
		return path, digest, errors.Join(ErrUnmarkable, err)
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", at), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return path, digest, err
	}
	defer unix.Close(fd)
	digest, err = r.measurer.hash(ctx, fd)
	return path, digest, err
}

func (m *measurer) content(ctx context.Context, h *HeldExec) (Content, error) {
	fd := h.fd
	id, err := identify(fd)
	if err != nil {
		return Content{}, err
	}
	m.mu.Lock()
	k, ok := m.cache[id]
	at, marked := m.layers[id.dev]
	m.mu.Unlock()
	if ok && k.lower {
		return h.noteCacheable(id, k), nil
	}
	if !marked {
		return Content{}, errUnlocated
	}
	upper, verity, err := at.locate(strings.TrimPrefix(h.Path(), at.dir), id, m.verity)
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
	case id.size > m.maxSize && verity != "":
		return Content{Verity: verity}, nil
	case id.size > m.maxSize:
		return Content{}, fmt.Errorf("%w: %d bytes, the bound is %d", ErrTooLarge, id.size, m.maxSize)
	}
	old := time.Since(time.Unix(id.ctime.Unix())) > minAge && time.Since(time.Unix(id.mtime.Unix())) > minAge
	digest, err := m.hash(ctx, fd)
	if err != nil {
		return Content{}, err
	}
	if again, err := identify(fd); err != nil || again != id {
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

// noteCacheable notes the digest of what may be remembered.
func (h *HeldExec) noteCacheable(id fileID, k cachedDigest) Content {
	if id == h.lease.id {
		h.cacheable = &k.digest
	}
	return k.content()
}

func (m *measurer) store(id fileID, now cachedDigest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.cache) >= maxCached {
		clear(m.cache)
	}
	m.cache[id] = now
}

// setLayers notes where a device's layers are, and forgets what was known of one
// that had its number before.
func (m *measurer) setLayers(device uint64, at overlayMount) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.layers[device] = at
	for id := range m.cache {
		if id.dev == device {
			delete(m.cache, id)
		}
	}
}

var errNoFile = errors.New("no regular file")

func identify(fd int) (fileID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fileID{}, fmt.Errorf("fstat: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fileID{}, errNoFile
	}
	return fileID{st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim}, nil
}

// reader is what hashing one file takes; 128 KiB is what the kernel reads
// ahead.
type reader struct {
	hash hash.Hash
	buf  [128 << 10]byte
}

var readers = sync.Pool{New: func() any { return &reader{hash: sha512.New384()} }}

func (m *measurer) hash(ctx context.Context, fd int) (digest [sha512.Size384]byte, err error) {
	r := readers.Get().(*reader)
	defer readers.Put(r)
	r.hash.Reset()
	for at := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return digest, ErrDeadline
		}
		n, err := unix.Pread(fd, r.buf[:], at)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return digest, fmt.Errorf("read: %w", err)
		case n == 0:
			r.hash.Sum(digest[:0])
			return digest, nil
		}
		if at += int64(n); at > m.maxSize {
			return digest, fmt.Errorf("%w: above %d bytes", ErrTooLarge, m.maxSize)
		}
		r.hash.Write(r.buf[:n])
	}
}
