package containers

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// confirmedStarts are the launches that were logged at the gate, before there was a
// cgroup, and let go in time; and the cgroup as which each came to run. They are on
// disk next to the log, because the log alone can't tell: a daemon that was killed,
// or stopped, may have logged a launch after its runtime had gone on.
type confirmedStarts struct {
	path string

	mu    sync.Mutex
	file  *os.File
	lines int // in the file
	byKey map[confirmedKey]uint64
}

// confirmedKey is a launch: its owner, and its instance, as the log names them.
type confirmedKey struct{ owner, instance string }

// spareLines is how many lines the file may have more than there are launches.
const spareLines = 256

// openConfirmed reads what a former run of the daemon left. It drops launches that
// are not the last one of their owner by now, as live tells.
func openConfirmed(dir string, live func(owner string) (instance string)) (*confirmedStarts, error) {
	c := &confirmedStarts{path: filepath.Join(dir, "gated"), byKey: make(map[confirmedKey]uint64)}
	f, err := os.Open(c.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err == nil {
		defer f.Close()
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			var k confirmedKey
			var inode uint64
			// A line that was cut off has no end mark, and is ignored.
			if n, _ := fmt.Sscanf(lines.Text(), "%s %s %x .", &k.owner, &k.instance, &inode); n == 3 && isComplete(lines.Text()) && live(k.owner) == k.instance {
				c.byKey[k] = inode
			}
		}
		if err := lines.Err(); err != nil {
			return nil, fmt.Errorf("read %s: %w", c.path, err)
		}
	}
	return c, c.rewrite()
}

func isComplete(line string) bool { return len(line) > 2 && line[len(line)-2:] == " ." }

func (c *confirmedStarts) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.file != nil {
		c.file.Close()
	}
	c.file = nil
}

// confirm notes that nothing of a launch had run when it was logged.
func (c *confirmedStarts) confirm(owner, instance string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.put(confirmedKey{owner, instance}, 0)
}

// claim reports whether a launch that was confirmed belongs to this cgroup. The
// first cgroup that claims a launch gets it; a later one is a start that the gate
// didn't see.
func (c *confirmedStarts) claim(owner, instance string, inode uint64) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := confirmedKey{owner, instance}
	was, ok := c.byKey[k]
	if !ok || was != 0 {
		return ok && was == inode, nil
	}
	err := c.put(k, inode)
	return err == nil, err
}

// retain evicts all launches but those of these owners.
func (c *confirmedStarts) retain(owners map[string]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k := range c.byKey {
		if !owners[k.owner] {
			delete(c.byKey, k)
		}
	}
}

// put stores one, on disk first; under mu.
func (c *confirmedStarts) put(k confirmedKey, inode uint64) error {
	if c.file == nil {
		return os.ErrClosed
	}
	if c.lines > 2*len(c.byKey)+spareLines {
		if err := c.rewrite(); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintf(c.file, "%s %s %x .\n", k.owner, k.instance, inode); err != nil {
		return fmt.Errorf("write %s: %w", c.path, err)
	}
	c.lines++
	c.byKey[k] = inode
	return nil
}

// rewrite makes a file with one line for each launch; under mu.
func (c *confirmedStarts) rewrite() error {
	f, err := os.OpenFile(c.path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	for k, inode := range c.byKey {
		fmt.Fprintf(w, "%s %s %x .\n", k.owner, k.instance, inode)
	}
	if err := errors.Join(w.Flush(), os.Rename(f.Name(), c.path)); err != nil {
		f.Close()
		return fmt.Errorf("write %s: %w", c.path, err)
	}
	if c.file != nil {
		c.file.Close()
	}
	c.file, c.lines = f, len(c.byKey)
	return nil
}
