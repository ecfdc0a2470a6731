// Package oslog answers: what did the kernel measure by itself?
//
// The kernel's integrity measurement architecture (IMA) has a log of its own. On
// most kernels nothing extends a register for it: Anchor logs its new entries as
// ima events. A patched kernel extends RTMR2 for each entry: then the log is a
// part of evidence (Log), and of the event log that a caller sees (View).
package oslog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cima-project/cima/logs/ima"
)

// Dir is the folder of the kernel's IMA log.
const Dir = "/sys/kernel/security/integrity/ima"

// Tail follows the IMA log in a folder as it grows. It is used by one goroutine
// at a time.
type Tail struct {
	tail  *ima.Tail
	files []*os.File
}

// Follow opens the IMA log below dir; fs.ErrNotExist where the kernel has none.
// Update calls onEntry for each entry, in order.
func Follow(dir string, onEntry func(*ima.Entry)) (*Tail, error) {
	t := &Tail{}
	for _, name := range []string{"binary_runtime_measurements", "runtime_measurements_count"} {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("IMA log: %w", err), t.Close())
		}
		t.files = append(t.files, f)
	}
	t.tail = ima.NewTail(t.files[0], t.files[1], onEntry)
	return t, nil
}

// Update reads the entries that are new, and returns their number.
func (t *Tail) Update() (int64, error) { return t.tail.Update() }

// Skipped is the number of entries that could not be read.
func (t *Tail) Skipped() int64 { return t.tail.Status().Skipped }

// Close closes the log's files.
func (t *Tail) Close() error {
	var errs []error
	for _, f := range t.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
