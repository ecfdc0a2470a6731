package collateral

import (
	"encoding/json/v2"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// entryForm is the form of the files of a cache. One of another form counts as absent.
const entryForm = 1

// kept ends the names of a cache's files.
const kept = ".kept"

// maxEntry bounds a file of a cache, in bytes.
const maxEntry = 16 << 20

// entry is a document with its chain, in one file, so that the two fit each other
// whenever a writer is killed. A nil entry is an absent one.
type entry struct {
	Form    int       `json:"form"`
	Fetched time.Time `json:"fetched"`
	Issued  time.Time `json:"issued"`
	Until   time.Time `json:"until"`
	Chain   []byte    `json:"chain"`
	Body    []byte    `json:"body"`
}

func (e *entry) inDate(now time.Time) bool {
	return e != nil && !now.Before(e.Issued) && !now.After(e.Until)
}

// fresh reports whether the document serves without asking: it was got less than askAfter ago.
// A clock that went back makes none fresh.
func (e *entry) fresh(now time.Time, askAfter time.Duration) bool {
	return e.inDate(now) && !now.Before(e.Fetched) && now.Sub(e.Fetched) < askAfter
}

// pauseNote says that a service is left alone for a while.
type pauseNote struct {
	Until    time.Time `json:"until"`
	Failures int       `json:"failures"`
	Why      string    `json:"why"`
}

// safe keeps letters and digits, at most 32: nothing in a file's name leads elsewhere.
func safe(of string) string {
	out := make([]byte, 0, 32)
	for i := 0; i < len(of) && len(out) < cap(out); i++ {
		if b := of[i]; b >= '0' && b <= '9' || b >= 'a' && b <= 'z' {
			out = append(out, b)
		}
	}
	return string(out)
}

// read returns nil where there is no document that can be read: it is asked for again.
func (c *Cache) read(n Need) *entry {
	e := &entry{}
	if c.load(n.name()+kept, e) != nil || e.Form != entryForm {
		return nil
	}
	return e
}

func (c *Cache) write(n Need, e *entry) error {
	return c.store(n.name()+kept, e)
}

func (c *Cache) readPause(n Need) (p pauseNote) {
	if c.load(n.turn()+".pause", &p) != nil || p.Until.Sub(c.time()) > longPause { // of a clock that went back
		return pauseNote{}
	}
	return p
}

// pause notes a failure. That the note can't be written is no error of its own: then the
// service is asked more often.
func (c *Cache) pause(n Need, why error) {
	p := c.readPause(n)
	wait := min(firstPause<<min(p.Failures, 20), longPause)
	_ = c.store(n.turn()+".pause", pauseNote{Until: c.time().Add(wait).UTC(), Failures: p.Failures + 1, Why: why.Error()})
}

func (c *Cache) forgive(n Need) {
	_ = os.Remove(filepath.Join(c.Dir, n.turn()+".pause"))
}

func (c *Cache) load(file string, into any) error {
	f, err := os.Open(filepath.Join(c.Dir, file))
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxEntry+1))
	if err != nil {
		return err
	}
	if len(text) > maxEntry {
		return errors.New("too large")
	}
	return json.Unmarshal(text, into)
}

// store writes a file that is whole or absent, whoever is killed.
func (c *Cache) store(file string, v any) error {
	text, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		return err
	}
	return writeWhole(filepath.Join(c.Dir, file), text)
}

// half begins the names of files that are being written.
const half = ".new-"

// sweep removes what writers left behind that were killed. The caller has the lock of the
// name, so nobody is writing now: of a line's certificates, which begin by it and "-", neither.
func (c *Cache) sweep(name string) {
	files, _ := os.ReadDir(c.Dir)
	for _, f := range files {
		rest, ours := strings.CutPrefix(f.Name(), half+name)
		if ours && (strings.HasPrefix(rest, ".") || strings.HasPrefix(name, "vcek-") && strings.HasPrefix(rest, "-")) {
			_ = os.Remove(filepath.Join(c.Dir, f.Name()))
		}
	}
}

func writeWhole(path string, text []byte) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), half+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
