package daemon

import (
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/ima"
	"github.com/cima-project/cima/rpc"
)

// imaDir is the kernel's integrity measurement log.
const imaDir = "/sys/kernel/security/integrity/ima"

// imaEvent is measured.ima: new entries of the IMA log, on kernels that extend
// no register for them. SHA384 is over the entries' lines as
// ascii_runtime_measurements shows them, newlines included.
type imaEvent struct {
	From   int64      `json:"from"` // number of the first, from 0
	Count  int64      `json:"count"`
	SHA384 rpc.Digest `json:"sha384"`
}

// imaLog anchors the kernel's IMA log in ours.
type imaLog struct {
	tail  *ima.Tail
	files []*os.File

	from   int64
	digest hash.Hash // of the lines that no event holds yet
}

// openIMA opens the log, fs.ErrNotExist where the kernel has none.
func openIMA(dir string) (*imaLog, error) {
	m := &imaLog{digest: sha512.New384()}
	err := m.open(dir, func(e *ima.Entry) { fmt.Fprintf(m.digest, "%s\n", e) })
	return m, err
}

func (m *imaLog) open(dir string, onEntry func(*ima.Entry)) error {
	for _, name := range []string{"binary_runtime_measurements", "runtime_measurements_count"} {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			m.close()
			return err
		}
		m.files = append(m.files, f)
	}
	m.tail = ima.NewTail(m.files[0], m.files[1], onEntry)
	return nil
}

func (m *imaLog) close() {
	for _, f := range m.files {
		f.Close()
	}
}

// next returns the event of what is new, false where nothing is.
func (m *imaLog) next() (imaEvent, bool, error) {
	n, err := m.tail.Update()
	if n == 0 {
		return imaEvent{}, false, err
	}
	e := imaEvent{From: m.from, Count: n}
	m.digest.Sum(e.SHA384[:0])
	return e, true, err
}

// done says that the event of next is in our log.
func (m *imaLog) done(e imaEvent) {
	m.from += e.Count
	m.digest.Reset()
}

// watchIMA logs what is new, no more often than the configuration allows. Each
// imaSlower events it goes half as often: anybody can cause new entries, and they
// must not fill the log.
func (d *Daemon) watchIMA(ctx context.Context) {
	if d.config().IMA.Mode == config.IMAOff || d.osLog != nil {
		return
	}
	m, err := openIMA(d.opts.imaDir())
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			d.log.Warn("the IMA log can't be read", "error", err)
		}
		return
	}
	defer m.close()
	var unsaid *imaEvent
	for said := 0; ctx.Err() == nil; {
		if unsaid == nil {
			e, some, err := m.next()
			if err != nil {
				d.log.Warn("the IMA log can't be followed", "error", err)
				return
			}
			if some {
				unsaid = &e
			}
		}
		if unsaid != nil {
			if _, err := d.ledger.AppendUntil(ctx, ledger.Event{Operation: logs.OpIMA, Measured: *unsaid}); err == nil {
				m.done(*unsaid)
				unsaid = nil
				said++
			} else {
				d.log.Debug("IMA entries not anchored yet", "error", err)
			}
		}
		pause(ctx, slower(time.Duration(d.config().IMA.Interval), said))
	}
}

const (
	imaSlower   = 64
	imaRarely   = 24 * time.Hour
	maxDoubling = 20
)

func slower(interval time.Duration, said int) time.Duration {
	return max(interval, min(interval<<min(said/imaSlower, maxDoubling), imaRarely))
}
