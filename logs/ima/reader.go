// Package ima answers: what does the kernel's IMA log say, and which registers does it explain?
//
// It reads the log in its ASCII and its binary form, follows it as it grows
// ([Tail]), recomputes template hashes, and replays the log to a TPM's PCR or to RTMR2.
//
// A log proves nothing by itself: an entry counts only after the replay equals a
// register of a verified quote, and its fields only where the template hash was
// recomputed from them ([Reader.Check]).
package ima

import (
	"bytes"
	"fmt"
	"io"

	"github.com/cima-project/cima/logs/alg"
)

const (
	// maxEntry is the most bytes of one entry, ASCII or binary. The kernel's largest
	// entries hold a module's signature or a policy.
	maxEntry = 1 << 20

	maxTemplateName = 255
	minBuffer       = 32 << 10

	// An entry's name may hold newlines, which the ASCII log shows as they are. At
	// most maxJoin lines are tried as one entry, until maxJoinTries tries have failed.
	maxJoin      = 16
	maxJoinTries = 1024
)

// Reader reads an IMA log, ASCII or binary, entry by entry, in constant memory. It
// detects the form by the first bytes, and the size of a binary log's template hashes by
// its first entry. Numbers in binary logs are little-endian.
type Reader struct {
	// Check recomputes every template hash from the fields. In an ASCII log it also
	// joins the lines of entries whose names hold newlines. Without Check the name
	// of such an entry is cut, and the rest counts as skipped lines. No name can pass
	// for an entry, because the kernel shows its spaces as underscores.
	Check bool

	// Counts so far.
	Entries    int64
	Violations int64
	Mismatched int64 // with Check: entries whose fields don't give the template hash, without violations
	Unchecked  int64 // with Check: ASCII entries whose fields have an unknown form
	Skipped    int64 // lines and records that are not entries

	lastSkip  error
	skippedAt int64
	src       io.Reader
	buf       []byte
	at, end   int
	drop      uint64 // bytes to skip: the rest of a record that is too long
	dropLine  bool   // skip the rest of a line that is too long
	final     bool   // the end of src is the end of the log
	known     bool   // the log's form was detected
	binary    bool
	alg       alg.ID
	tries     int
	entry     Entry
}

// NewReader returns a reader of a complete log, whose last line needs no newline.
func NewReader(src io.Reader) *Reader { return &Reader{src: src, final: true} }

// LastSkip says why the last of the skipped lines or records is not an entry; nil where
// nothing was skipped.
func (r *Reader) LastSkip() error {
	if r.lastSkip == nil {
		return nil
	}
	return fmt.Errorf("after entry %d: %w", r.skippedAt, r.lastSkip)
}

// Next returns the next entry, which is valid until the next call. Lines and records that
// are not entries are counted and skipped. The error is io.EOF, the source's error,
// or, in binary logs only, that the next record's beginning can't be found.
func (r *Reader) Next() (*Entry, error) {
	for {
		if err := r.dropRest(); err != nil {
			return nil, err
		}
		if err := r.need(1); err != nil {
			return nil, err
		}
		if !r.known {
			if err := r.detectForm(); err != nil {
				return nil, err
			}
		}
		next := r.nextLine
		if r.binary {
			next = r.nextRecord
		}
		ok, err := next()
		if err != nil {
			return nil, err
		}
		if ok {
			r.count()
			return &r.entry, nil
		}
	}
}

func (r *Reader) count() {
	r.Entries++
	if r.entry.Violation {
		r.Violations++
	} else if r.Check && r.entry.fields == "" && !r.binary {
		r.Unchecked++
	} else if r.Check && !r.entry.matches {
		r.Mismatched++
	}
}

func (r *Reader) skip(err error) {
	r.Skipped++
	r.lastSkip, r.skippedAt = err, r.Entries
}

// nextLine reads a line; false where it is not an entry.
func (r *Reader) nextLine() (bool, error) {
	line, err := r.until(0)
	if err != nil {
		return false, err
	}
	if line == nil {
		r.skip(errLongLine)
		r.dropLine = true
		return false, nil
	}
	size := len(line)
	perr := r.entry.parseText(line)
	if perr == nil && r.Check && !r.entry.Violation && !r.matches() {
		if joined, ok := r.join(size); ok {
			size = joined
		} else if perr = r.entry.parseText(r.buf[r.at : r.at+size]); perr != nil {
			return false, perr // can't happen: the same line was an entry before
		}
	}
	r.at = min(r.at+size+1, r.end)
	if perr != nil {
		r.skip(perr)
	}
	return perr == nil, nil
}

// join tries the current line, of size bytes, together with the lines after it as one
// entry. The template hash decides whether they are.
func (r *Reader) join(size int) (int, bool) {
	if r.tries >= maxJoinTries || r.entry.fields == "" {
		return 0, false
	}
	for range maxJoin {
		line, err := r.until(size + 1)
		if err != nil || line == nil || len(line) <= size {
			break
		}
		size = len(line)
		if r.entry.parseText(line) == nil && r.matches() {
			return size, true
		}
	}
	r.tries++
	return 0, false
}

// matches recomputes the entry's template hash.
func (r *Reader) matches() bool {
	e := &r.entry
	data, err := e.templateData()
	var sum [64]byte
	e.matches = err == nil && bytes.Equal(e.Alg.Sum(sum[:0], data), e.TemplateHash())
	if !e.matches && err == nil && e.Alg == alg.SHA256 && bytes.Equal(alg.SM3.Sum(sum[:0], data), e.TemplateHash()) {
		e.Alg, e.matches = alg.SM3, true // the two are of one size
	}
	return e.matches
}

// detectForm distinguishes binary from ASCII: a record begins with a register number
// below 256 as a u32, and a line holds no zero bytes.
func (r *Reader) detectForm() error {
	for r.end-r.at < 4 {
		if err := r.fill(); err == io.EOF && r.final {
			break
		} else if err != nil {
			return err
		}
	}
	head := r.buf[r.at:min(r.at+4, r.end)]
	r.known, r.binary = true, len(head) == 4 && isZero(head[1:])
	return nil
}
