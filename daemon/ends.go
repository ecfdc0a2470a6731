package daemon

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/engines"
	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/logs"
)

// How long an instance that is open in the log is looked for: a record may be
// written anew at this moment, or its runtime not have made the container yet.
const (
	goneFor     = 200 * time.Millisecond
	notStarted  = time.Minute
	halfWritten = 5 * time.Second
	judgeEndFor = time.Second
)

// maxDeaths bounds the ends that are not judged yet.
const maxDeaths = 4096

// ends sees to it that the log tells of each instance that it is over, and of
// containers that were over before they could be read. The log says which are
// open, and not memory: what was measured at the gate may run between two
// surveys, and end while no daemon runs.
type ends struct {
	d       *Daemon
	missing map[string]time.Time // since when, by owner and instance
	bad     map[string]*unread   // by bundle

	mu   sync.Mutex
	died map[string]engines.Event // by id: what engines told
}

// unread is a record that no instance can be made of.
type unread struct {
	since     time.Time
	announced bool
}

func newEnds(d *Daemon) *ends {
	return &ends{
		d: d, missing: make(map[string]time.Time), bad: make(map[string]*unread),
		died: make(map[string]engines.Event),
	}
}

// told takes what an engine tells.
func (e *ends) told(h engines.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if h.Action == engines.ActionDie && len(e.died) < maxDeaths {
		e.died[h.ID] = h
	}
}

// look logs what is over. open is what the log held before records were listed,
// running are the owners that were found to run, or can't be looked at.
func (e *ends) look(ctx context.Context, open map[string]ledger.Launched, list []records.Record, running map[string]bool) {
	byID := make(map[string]records.Record, len(list))
	for _, rec := range list {
		byID[rec.ID] = rec
	}
	missing := make(map[string]time.Time)
	for owner, launched := range open {
		if running[owner] {
			continue
		}
		patience := goneFor
		if rec, there := byID[owner]; lives(rec) {
			continue
		} else if there {
			patience = notStarted
		}
		key := owner + " " + launched.Instance
		since, known := e.missing[key]
		if !known {
			since = time.Now()
		}
		if time.Since(since) < patience || !e.exit(ctx, owner, launched.Instance) {
			missing[key] = since
		}
	}
	e.missing = missing
	e.announce(ctx, list)
	e.judge(ctx)
}

// lives says that a record's first process is there, or another that has its
// number by now.
func lives(rec records.Record) bool {
	return rec.InitPID > 0 && !errors.Is(unix.Kill(rec.InitPID, 0), unix.ESRCH)
}

// exit logs the end of an instance, false where it is to be tried again: the
// register failed, and may work the next time.
func (e *ends) exit(ctx context.Context, owner, instance string) bool {
	_, err := e.d.ledger.Append(ctx, ledger.Event{Operation: logs.OpExit, Owner: owner, Instance: instance})
	var inconsistent *ledger.InconsistentError
	switch {
	case err == nil || errors.Is(err, ledger.ErrReplaced):
	case errors.As(err, &inconsistent) || errors.Is(err, ledger.ErrFull):
		e.d.log.Warn("end of a container not logged", "container", owner, "error", err)
	default:
		e.d.log.Debug("end of a container not logged yet", "container", owner, "error", err)
		return false
	}
	return true
}

// announce tells of containers of whom nothing can be told, or that have no cgroup
// that an instance could be: they are never measured, and may have any power.
func (e *ends) announce(ctx context.Context, records []records.Record) {
	bad := make(map[string]*unread)
	for _, rec := range records {
		if rec.UID != 0 || rec.Err == nil && rec.CgroupPath != "" || !lives(rec) {
			continue // what doesn't run has no power
		}
		u := e.bad[rec.Bundle]
		if u == nil {
			u = &unread{since: time.Now()}
		}
		bad[rec.Bundle] = u
		if u.announced || time.Since(u.since) < halfWritten && rec.Err != nil {
			continue // said, or it may be half written
		}
		err := e.d.announcePower(ctx, rec.ID, rec)
		if u.announced = err == nil; err != nil {
			e.d.log.Debug("power of a container not logged yet", "container", rec.ID, "error", err)
		}
	}
	e.bad = bad
}

// judge logs the containers that ended before anything could be told of them.
func (e *ends) judge(ctx context.Context) {
	e.mu.Lock()
	var due []engines.Event
	for id, h := range e.died {
		if time.Since(h.At) > judgeEndFor {
			due = append(due, h)
			delete(e.died, id)
		}
	}
	e.mu.Unlock()
	for _, h := range due {
		if err := e.unseen(ctx, h); err != nil {
			e.d.log.Debug("a container that was gone is not logged yet", "container", h.ID, "error", err)
			if !errors.Is(err, ledger.ErrFull) {
				e.told(h)
			}
		}
	}
}

// unseen logs a container that is gone, if the log doesn't know it: that it was,
// and that it may have had any power.
func (e *ends) unseen(ctx context.Context, h engines.Event) error {
	at, err := e.d.ledger.Snapshot(h.ID)
	if err != nil || at.Owner.Instance != "" {
		return err
	}
	rec := records.Record{ID: h.ID, Runtime: h.Runtime, Launch: launch.Launch{Source: launch.SourceNone}}
	instance := "gone." + h.At.UTC().Format("20060102T150405.000000000")
	if err := e.d.appendLaunch(ctx, h.ID, instance, rec, rec.Launch); err != nil {
		return err
	}
	e.exit(ctx, h.ID, instance)
	return nil
}
