package oslog

import (
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"log/slog"
	"time"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/ima"
)

// Anchor logs new entries of the IMA log below dir as ima events until ctx ends,
// no more often than conf allows, and ever less often: anybody on the machine can
// cause new entries, and they must not fill the runtime log. Where the kernel has
// no IMA log, or conf says "off", it returns at once.
func Anchor(ctx context.Context, dir string, l *ledger.Ledger, conf func() config.IMA, log *slog.Logger) {
	if conf().Mode == config.IMAOff {
		return
	}
	a, err := openAnchor(dir)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			log.Warn("the IMA log can't be read", "error", err)
		}
		return
	}
	defer a.tail.Close()
	for logged := 0; ctx.Err() == nil; {
		e, some, err := a.next()
		if err != nil {
			log.Warn("the IMA log can't be followed", "error", err)
			return
		}
		if some {
			if _, err := l.Append(ctx, ledger.Event{Operation: logs.OpIMA, Measured: e}); err == nil {
				a.done()
				logged++
			} else {
				log.Debug("IMA entries are not anchored yet", "error", err)
			}
		}
		pause(ctx, interval(time.Duration(conf().Interval), logged))
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// The interval doubles after every slowAfter events, up to maxInterval.
const (
	slowAfter   = 64
	maxInterval = 24 * time.Hour
	maxDoubling = 20
)

func interval(least time.Duration, logged int) time.Duration {
	return max(least, min(least<<min(logged/slowAfter, maxDoubling), maxInterval))
}

// anchor makes events of the entries that no event holds yet.
type anchor struct {
	tail   *Tail
	digest hash.Hash // SHA-384 of the lines that no event holds yet

	pending *logs.IMABody // not logged yet
	from    int64         // number of the entry after the last one that is logged
}

func openAnchor(dir string) (*anchor, error) {
	a := &anchor{digest: sha512.New384()}
	var err error
	a.tail, err = Follow(dir, func(e *ima.Entry) { fmt.Fprintf(a.digest, "%s\n", e) })
	return a, err
}

// next returns the event to log, and false where there are no new entries. It
// returns the same event until done.
func (a *anchor) next() (logs.IMABody, bool, error) {
	if a.pending == nil {
		n, err := a.tail.Update()
		if n == 0 || err != nil {
			return logs.IMABody{}, false, err
		}
		a.pending = &logs.IMABody{From: a.from, Count: n}
		a.digest.Sum(a.pending.SHA384[:0])
	}
	return *a.pending, true, nil
}

// done notes that the event of next is logged.
func (a *anchor) done() {
	a.from += a.pending.Count
	a.pending = nil
	a.digest.Reset()
}
