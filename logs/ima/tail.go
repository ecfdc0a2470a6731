package ima

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"sync"
)

// Tail follows the kernel's IMA log as it grows and reads each entry once. It
// is safe for concurrent use.
type Tail struct {
	mu      sync.Mutex
	count   io.ReaderAt
	seen    int64 // the kernel's count when the log was last read to its end
	read    bool
	reader  Reader
	onEntry func(*Entry)
}

// NewTail follows log, an open {ascii,binary}_runtime_measurements. Binary is
// better, because names can hold newlines. count is runtime_measurements_count, or
// nil. Both files are in /sys/kernel/security/integrity/ima and must stay open as
// long as the tail is used: for each open file the kernel walks its list from the
// head. onEntry, if not nil, gets each entry and must not call the tail.
func NewTail(log io.Reader, count io.ReaderAt, onEntry func(*Entry)) *Tail {
	return &Tail{count: count, reader: Reader{src: log}, onEntry: onEntry}
}

// Update reads the new entries and returns their number. An error of a binary log that
// can't be followed further is returned again by each later call.
func (t *Tail) Update() (int64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.update()
}

func (t *Tail) update() (int64, error) {
	var now int64
	if t.count != nil {
		var err error
		if now, err = readCount(t.count); err != nil {
			return 0, err
		}
		if t.read && now == t.seen {
			return 0, nil
		}
	}
	before := t.reader.Entries
	for {
		e, err := t.reader.Next()
		if err == io.EOF {
			t.seen, t.read = now, true
			return t.reader.Entries - before, nil
		}
		if err != nil {
			return t.reader.Entries - before, fmt.Errorf("IMA log: %w", err)
		}
		if t.onEntry != nil {
			t.onEntry(e)
		}
	}
}

// Status counts what a tail has read.
type Status struct {
	entries, violations, Skipped int64
	lastSkip                     error
}

// Status returns the counts so far.
func (t *Tail) Status() Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Status{t.reader.Entries, t.reader.Violations, t.reader.Skipped, t.reader.LastSkip()}
}

func readCount(r io.ReaderAt) (int64, error) {
	var b [32]byte
	n, err := r.ReadAt(b[:], 0)
	if err != nil && err != io.EOF {
		return 0, fmt.Errorf("IMA measurement count: %w", err)
	}
	count, err := strconv.ParseInt(string(bytes.TrimSpace(b[:n])), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("IMA measurement count: %.32q must be a number", b[:n])
	}
	return count, nil
}
