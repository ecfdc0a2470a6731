package ima

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cima-project/cima/logs/alg"
)

var errNoRecord = errors.New("a record of a binary IMA log must begin here")

// nextRecord reads a record of a binary log: u32 register, template hash, u32 length of
// the name, name, u32 length of the data, data; little-endian. The template "ima" has
// no length of the data (ima_measurements_show in security/integrity/ima/ima_fs.c).
func (r *Reader) nextRecord() (bool, error) {
	if r.alg == 0 {
		if err := r.detectHash(); err != nil {
			return false, err
		}
	}
	head := 4 + r.alg.Size() + 4
	if err := r.need(head); err != nil {
		return false, err
	}
	n := int(min(binary.LittleEndian.Uint32(r.buf[r.at+head-4:]), maxTemplateName+1))
	if n == 0 || n > maxTemplateName {
		return false, fmt.Errorf("after entry %d: %w", r.Entries, errNoRecord)
	}
	if err := r.need(head + n + 4); err != nil {
		return false, err
	}
	name := r.buf[r.at+head : r.at+head+n]
	start, size, err := r.dataSize(head+n, string(name) == templateIMA)
	if err != nil {
		return false, err
	}
	if uint64(start)+size > maxEntry {
		r.skip(errLongLine)
		r.drop = uint64(start) + size
		return false, nil
	}
	if err := r.need(start + int(size)); err != nil {
		return false, err
	}
	b := r.buf[r.at : r.at+start+int(size)]
	clear(r.entry.hash[:])
	copy(r.entry.hash[:], b[4:head-4])
	r.entry.set(binary.LittleEndian.Uint32(b), r.alg, b[head:head+n], b[start:])
	r.entry.binary = true
	r.at += len(b)
	if r.Check && !r.entry.Violation {
		r.matches()
	}
	return true, nil
}

// dataSize returns where a record's data begin and how many bytes they have.
func (r *Reader) dataSize(at int, old bool) (start int, size uint64, err error) {
	if !old {
		return at + 4, uint64(binary.LittleEndian.Uint32(r.buf[r.at+at:])), nil
	}
	if err := r.need(at + imaDigest + 4); err != nil {
		return 0, 0, err
	}
	name := binary.LittleEndian.Uint32(r.buf[r.at+at+imaDigest:])
	return at, imaDigest + 4 + uint64(name), nil
}

// detectHash finds the size of the template hashes: the one after which a template's name
// follows.
func (r *Reader) detectHash() error {
	for _, alg := range []alg.ID{alg.SHA1, alg.SHA256, alg.SHA384, alg.SHA512} {
		head := 4 + alg.Size() + 4
		if err := r.need(head); err != nil {
			return err
		}
		n := binary.LittleEndian.Uint32(r.buf[r.at+head-4:])
		if n == 0 || n > maxTemplateName {
			continue
		}
		if err := r.need(head + int(n)); err != nil {
			return err
		}
		if printable(r.buf[r.at+head : r.at+head+int(n)]) {
			r.alg = alg
			return nil
		}
	}
	return errNoRecord
}

func printable(name []byte) bool {
	for _, c := range name {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}
