// Package confirmed answers: which launches were judged before anything of the container ran?
package confirmed

import (
	"bufio"
	"encoding/base64"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// Starts are the launches that were logged before there was a cgroup: which
// of them were judged at START, when nothing of the container had run, and the cgroup
// as which each came to run. They are on disk next to the log, because the log alone
// can't tell: a daemon that was killed, or stopped, may have logged a launch, and its
// container may have started unjudged.
type Starts struct {
	path string

	mu    sync.Mutex
	file  *os.File
	lines int // in the file; those of power aren't counted
	byKey map[key]start
}

// key is a launch: its owner, and its instance, as the log names them.
type key struct{ owner, instance string }

// start is what came of a launch.
type start struct {
	inode  uint64 // of the cgroup; 0: none is known yet
	judged bool   // at START, before the container's first instruction

	// power are the classes that START showed, as encode writes them. "": nothing is
	// known of them. A daemon that didn't keep them wrote the line, or they are too long.
	power string
}

// spareLines is how many lines the file may have more than there are launches.
const spareLines = 256

// Open reads what a former run of the daemon left. It drops launches that
// are not the last one of their owner by now, as live tells.
func Open(dir string, live func(owner string) (instance string)) (*Starts, error) {
	c := &Starts{path: filepath.Join(dir, "gated"), byKey: make(map[key]start)}
	f, err := os.Open(c.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err == nil {
		defer f.Close()
		power := make(map[key]string)
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			if k, word, ok := parsePower(lines.Text()); ok && live(k.owner) == k.instance {
				power[k] = word
			} else if k, s, ok := parse(lines.Text()); ok && live(k.owner) == k.instance {
				if s.judged {
					s.power = power[k]
				}
				c.byKey[k] = s
			}
		}
		if err := lines.Err(); err != nil {
			return nil, fmt.Errorf("read %s: %w", c.path, err)
		}
	}
	return c, c.rewrite()
}

// Words of a line: for start.judged, and of the line that holds start.power.
const (
	wordJudged = "judged"
	wordUnseen = "unseen"
	wordPower  = "power"
)

// maxPower bounds the classes of one start, as encode writes them: a line must fit bufio.Scanner.
const maxPower = 32 << 10

// parse reads a line such as "OWNER INSTANCE 1a2b judged ." A line that was
// cut off has no end mark, and is ignored. A daemon of the first profile wrote no word:
// it judged nothing.
func parse(line string) (k key, s start, ok bool) {
	fields := strings.Split(line, " ")
	if n := len(fields); n != 4 && n != 5 || fields[n-1] != "." {
		return k, s, false
	}
	inode, err := strconv.ParseUint(fields[2], 16, 64)
	k, s = key{fields[0], fields[1]}, start{inode: inode}
	if len(fields) == 5 {
		s.judged = fields[3] == wordJudged
	}
	return k, s, err == nil
}

// parsePower reads a line such as "OWNER INSTANCE power 0 W10 ." It stands before the line
// that says "judged", so whoever reads that has the classes. It has six fields: a daemon that
// doesn't know it ignores it, and reads the other as ever.
func parsePower(line string) (k key, word string, ok bool) {
	fields := strings.Split(line, " ")
	if len(fields) != 6 || fields[2] != wordPower || fields[3] != "0" || fields[5] != "." {
		return k, "", false
	}
	_, ok = decode(fields[4])
	return key{fields[0], fields[1]}, fields[4], ok
}

func (s start) lines(k key) string {
	word, before := wordUnseen, ""
	if s.judged {
		word = wordJudged
		if s.power != "" {
			before = fmt.Sprintf("%s %s %s 0 %s .\n", k.owner, k.instance, wordPower, s.power)
		}
	}
	return before + fmt.Sprintf("%s %s %x %s .\n", k.owner, k.instance, s.inode, word)
}

// encode writes classes as one word; "" where they are too long for a line.
func encode(classes []string) (string, error) {
	text, err := json.Marshal(append([]string{}, classes...))
	word := base64.RawURLEncoding.EncodeToString(text)
	if len(word) > maxPower {
		return "", err
	}
	return word, err
}

func decode(word string) (classes []string, ok bool) {
	text, err := base64.RawURLEncoding.DecodeString(word)
	if err == nil {
		err = json.Unmarshal(text, &classes)
	}
	return classes, err == nil && classes != nil
}

// Close closes the file.
func (c *Starts) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.file != nil {
		c.file.Close()
	}
	c.file = nil
}

// Confirm notes that a container was judged when nothing of it had run, and which classes
// of power that showed. A launch that a cgroup has claimed stays as it is: evidence may say
// already that it was not judged.
func (c *Starts) Confirm(owner, instance string, power ...string) error {
	word, err := encode(power)
	if err != nil {
		return fmt.Errorf("classes of power: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k := key{owner, instance}
	if s := c.byKey[k]; s.judged || s.inode != 0 {
		return nil
	}
	return c.put(k, start{judged: true, power: word})
}

// IsJudged reports whether Confirm was called for a launch.
func (c *Starts) IsJudged(owner, instance string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byKey[key{owner, instance}].judged
}

// Power returns the classes of power that a start showed when it was judged. known is
// false where it wasn't, or where nobody kept them.
func (c *Starts) Power(owner, instance string) (classes []string, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return decode(c.byKey[key{owner, instance}].power)
}

// Claim reports whether a launch that the gate logged belongs to this cgroup, and
// whether the container was judged at START. The first cgroup that claims a launch gets
// it; a later one is a start that the gate didn't see.
func (c *Starts) Claim(owner, instance string, inode uint64) (mine, judged bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := key{owner, instance}
	s := c.byKey[k]
	if s.inode == 0 {
		s.inode = inode
		if err := c.put(k, s); err != nil {
			return false, false, err
		}
	}
	return s.inode == inode, s.judged && s.inode == inode, nil
}

// Retain evicts all launches but those of these owners.
func (c *Starts) Retain(owners map[string]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k := range c.byKey {
		if !owners[k.owner] {
			delete(c.byKey, k)
		}
	}
}

// put stores one, on disk first; under mu.
func (c *Starts) put(k key, s start) error {
	if c.file == nil {
		return os.ErrClosed
	}
	if c.lines > 2*len(c.byKey)+spareLines {
		if err := c.rewrite(); err != nil {
			return err
		}
	}
	if _, err := c.file.WriteString(s.lines(k)); err != nil {
		return fmt.Errorf("write %s: %w", c.path, err)
	}
	c.lines++
	c.byKey[k] = s
	return nil
}

// rewrite makes a file with one line for each launch; under mu.
func (c *Starts) rewrite() error {
	f, err := os.OpenFile(c.path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	for k, s := range c.byKey {
		w.WriteString(s.lines(k))
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
