// Package bolt answers: what does a bolt database hold that another process writes?
//
// containerd keeps what it knows in bolt databases (go.etcd.io/bbolt, format version 2)
// and holds a lock on them as long as it runs. The library's own reader would wait for
// that lock, or has to be given a copy of the whole file for each question; and it maps
// the file and takes it for sound. View takes no lock, makes no copy, and reads only the
// pages on the way to a key.
//
// Why that is safe: a transaction writes to pages that its predecessor doesn't use, then
// to the meta page. So what transaction N wrote stands until N+2 begins, and N+2 begins
// after N+1 was committed. If N is still the newest one after the last page was read, all
// that was read is N's.
package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// Bounds of one View. A path to a key in a database of many gigabytes has fewer than ten
// pages.
const (
	maxPages = 1024
	maxBytes = 16 << 20
	maxDepth = 32
	maxTries = 64 // while somebody commits
)

// errBusy says that the database was written again and again while it was read.
var errBusy = errors.New("the database is written all the time")

// View calls f with the root of what was committed last, and calls it again if somebody
// committed meanwhile: only what the last call found counts. f must keep no Bucket.
func View(file io.ReaderAt, f func(root *Bucket)) error {
	for range maxTries {
		now, err := newest(file)
		if err != nil {
			return err
		}
		t := &transaction{file: file, meta: now}
		f(&Bucket{t: t, root: now.root})
		after, err := newest(file)
		switch {
		case err != nil:
			return err
		case after.txid == now.txid:
			return t.err
		}
	}
	return errBusy
}

// meta is what is needed of a meta page.
type meta struct {
	pageSize uint32
	root     uint64 // page of the root bucket
	pages    uint64 // how many there are
	txid     uint64
}

const (
	magic        = 0xED0CDAED
	version      = 2
	pageHeader   = 16
	metaSize     = 64
	bucketHeader = 16
	elementSize  = 16
	minPage      = 1 << 10
	maxPage      = 64 << 10
)

// newest reads the two meta pages, which the transactions write in turn. One of them may
// be half written.
func newest(file io.ReaderAt) (found meta, err error) {
	first, ok := readMeta(file, 0)
	if ok {
		found = first
	}
	for size := int64(minPage); size <= maxPage; size *= 2 {
		if ok && int64(first.pageSize) != size {
			continue
		}
		if second, good := readMeta(file, size); good && int64(second.pageSize) == size && second.txid >= found.txid {
			found = second
		}
	}
	if found.pageSize == 0 {
		return meta{}, errors.New("no bolt database of version 2")
	}
	return found, nil
}

func readMeta(file io.ReaderAt, at int64) (m meta, ok bool) {
	raw := make([]byte, metaSize)
	if _, err := file.ReadAt(raw, at+pageHeader); err != nil {
		return m, false
	}
	sum := fnv.New64a()
	sum.Write(raw[:56])
	m = meta{pageSize: u32(raw[8:]), root: u64(raw[16:]), pages: u64(raw[40:]), txid: u64(raw[48:])}
	size := m.pageSize
	return m, u32(raw) == magic && u32(raw[4:]) == version && u64(raw[56:]) == sum.Sum64() &&
		size >= minPage && size <= maxPage && size&(size-1) == 0
}

// The library writes numbers in the machine's own order.
func u16(b []byte) uint16 { return binary.NativeEndian.Uint16(b) }
func u32(b []byte) uint32 { return binary.NativeEndian.Uint32(b) }
func u64(b []byte) uint64 { return binary.NativeEndian.Uint64(b) }

// transaction is one reading of what one transaction wrote.
type transaction struct {
	file         io.ReaderAt
	meta         meta
	pages, bytes int
	err          error // the first one; from then on nothing is found
}

func (t *transaction) fail(format string, args ...any) {
	if t.err == nil {
		t.err = fmt.Errorf("bolt database: "+format, args...)
	}
}

// page reads a page with those that it flows over to.
func (t *transaction) page(id uint64) []byte {
	if t.err != nil {
		return nil
	}
	size := int(t.meta.pageSize)
	if t.pages++; t.pages > maxPages || id < 2 || id >= t.meta.pages || id > 1<<40 {
		t.fail("page %d of %d is not one of at most %d", id, t.meta.pages, maxPages)
		return nil
	}
	at := int64(id) * int64(size)
	head := make([]byte, size)
	if _, err := t.file.ReadAt(head, at); err != nil {
		t.fail("page %d: %w", id, err)
		return nil
	}
	more := int64(u32(head[12:])) * int64(size)
	if t.bytes += size + int(min(more, maxBytes)); t.bytes > maxBytes {
		t.fail("more than %d bytes", maxBytes)
		return nil
	}
	if more == 0 {
		return head
	}
	whole := append(head, make([]byte, more)...)
	if _, err := t.file.ReadAt(whole[size:], at+int64(size)); err != nil {
		t.fail("page %d: %w", id, err)
		return nil
	}
	return whole
}
