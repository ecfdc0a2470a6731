package daemon

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// adoptions are the launches that were logged at the gate, before there was a
// cgroup, and let go in time; and the instance as which each came to run. They
// are on disk beside the log, for the log alone doesn't tell: a daemon that was
// killed, or stopped, may have logged a launch whose runtime went on before.
type adoptions struct {
	path string

	mu    sync.Mutex
	file  *os.File
	lines int // in the file
	byKey map[adoption]uint64
}

// adoption is a launch: whose, and the instance as the log names it.
type adoption struct{ owner, instance string }

// spareLines are how many more the file may have than there are launches.
const spareLines = 256

// openAdoptions takes up what a former run of the daemon left, save what live
// doesn't know as the last launch of its owner.
func openAdoptions(dir string, live func(owner string) (instance string)) (*adoptions, error) {
	a := &adoptions{path: filepath.Join(dir, "gated"), byKey: make(map[adoption]uint64)}
	f, err := os.Open(a.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err == nil {
		defer f.Close()
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			var k adoption
			var inode uint64
			// A line that was cut off has no end mark, and counts for nothing.
			if n, _ := fmt.Sscanf(lines.Text(), "%s %s %x .", &k.owner, &k.instance, &inode); n == 3 && complete(lines.Text()) && live(k.owner) == k.instance {
				a.byKey[k] = inode
			}
		}
		if err := lines.Err(); err != nil {
			return nil, fmt.Errorf("read %s: %w", a.path, err)
		}
	}
	return a, a.rewrite()
}

func complete(line string) bool { return len(line) > 2 && line[len(line)-2:] == " ." }

func (a *adoptions) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.file != nil {
		a.file.Close()
	}
	a.file = nil
}

// confirm says that nothing of a launch had run when it was logged.
func (a *adoptions) confirm(owner, instance string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.put(adoption{owner, instance}, 0)
}

// adopt says whether a launch that was confirmed is the instance of this cgroup:
// the first one that comes with it is, a later one is a start that the gate
// didn't see.
func (a *adoptions) adopt(owner, instance string, inode uint64) (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	k := adoption{owner, instance}
	was, ok := a.byKey[k]
	if !ok || was != 0 {
		return ok && was == inode, nil
	}
	err := a.put(k, inode)
	return err == nil, err
}

// keep forgets all launches but those of these owners.
func (a *adoptions) keep(owners map[string]bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for k := range a.byKey {
		if !owners[k.owner] {
			delete(a.byKey, k)
		}
	}
}

// put notes one; on disk first. Under mu.
func (a *adoptions) put(k adoption, inode uint64) error {
	if a.file == nil {
		return os.ErrClosed
	}
	if a.lines > 2*len(a.byKey)+spareLines {
		if err := a.rewrite(); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintf(a.file, "%s %s %x .\n", k.owner, k.instance, inode); err != nil {
		return fmt.Errorf("write %s: %w", a.path, err)
	}
	a.lines++
	a.byKey[k] = inode
	return nil
}

// rewrite leaves one line for each. Under mu.
func (a *adoptions) rewrite() error {
	f, err := os.OpenFile(a.path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	for k, inode := range a.byKey {
		fmt.Fprintf(w, "%s %s %x .\n", k.owner, k.instance, inode)
	}
	if err := errors.Join(w.Flush(), os.Rename(f.Name(), a.path)); err != nil {
		f.Close()
		return fmt.Errorf("write %s: %w", a.path, err)
	}
	if a.file != nil {
		a.file.Close()
	}
	a.file, a.lines = f, len(a.byKey)
	return nil
}
