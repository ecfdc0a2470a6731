package containers

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/cima-project/cima/daemon/engines"
	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/logs"
)

// How long an instance that is open in the log may be missing before its end is
// logged: an engine may be writing its record anew, or the runtime may not have made
// the container yet.
const (
	goneFor       = 200 * time.Millisecond
	notStarted    = time.Minute
	halfWritten   = 5 * time.Second
	reportedAfter = time.Second // until an end that an engine reported is logged
)

// maxReported bounds the ends that engines reported and that are not logged yet.
const maxReported = 4096

// exits logs the end of each instance, and containers that ended before they could
// be read. The log says which instances are open, not the memory: a container that
// was measured at the gate may run and end between two surveys, or end while no
// daemon runs.
type exits struct {
	m          *Manager
	missing    map[string]time.Time   // since when, by owner and instance
	unreadable map[string]*unreadable // by bundle

	mu           sync.Mutex
	reportedDead map[string]engines.Event // by id
}

// unreadable is a record that no instance can be made of.
type unreadable struct {
	since     time.Time
	announced bool
}

func newExits(m *Manager) *exits {
	return &exits{
		m: m, missing: make(map[string]time.Time), unreadable: make(map[string]*unreadable),
		reportedDead: make(map[string]engines.Event),
	}
}

// report takes what an engine reports.
func (x *exits) report(e engines.Event) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e.Action == engines.ActionDie && len(x.reportedDead) < maxReported {
		x.reportedDead[e.ID] = e
	}
}

// survey logs what ended. open is what the log held before the records were listed,
// running are the owners that run, or that can't be checked.
func (x *exits) survey(ctx context.Context, open map[string]ledger.Launched, list []records.Record, running map[string]bool) {
	byName := make(map[string]records.Record, len(list))
	for _, rec := range list {
		byName[rec.Name] = rec
	}
	missing := make(map[string]time.Time)
	for owner, launched := range open {
		if running[owner] {
			continue
		}
		after := goneFor
		if rec, there := byName[owner]; lives(rec) {
			continue
		} else if there {
			after = notStarted
		}
		key := owner + " " + launched.Instance
		since, known := x.missing[key]
		if !known {
			since = time.Now()
		}
		if time.Since(since) < after || !x.log(ctx, owner, launched.Instance) {
			missing[key] = since
		}
	}
	x.missing = missing
	x.announceUnreadable(ctx, list)
	x.logReported(ctx)
}

// lives reports whether a record's first process is there, or another process that
// has its number by now. It sends no signal: AppArmor denies even signal 0 to a
// container.
func lives(rec records.Record) bool {
	if rec.InitPID <= 0 {
		return false
	}
	_, err := os.Lstat("/proc/" + strconv.Itoa(rec.InitPID))
	return !errors.Is(err, fs.ErrNotExist)
}

// log logs the end of an instance; false: the register failed, and the next survey
// must try again.
func (x *exits) log(ctx context.Context, owner, instance string) bool {
	_, err := x.m.Ledger.Append(ctx, ledger.Event{Operation: logs.OpExit, Owner: owner, Instance: instance})
	var inconsistent *ledger.InconsistentError
	switch {
	case err == nil || errors.Is(err, ledger.ErrReplaced):
	case errors.As(err, &inconsistent) || errors.Is(err, ledger.ErrFull):
		x.m.Log.Warn("end of a container not logged", "container", owner, "error", err)
	default:
		x.m.Log.Debug("end of a container not logged yet", "container", owner, "error", err)
		return false
	}
	return true
}

// announceUnreadable logs the power of containers whose record can't be read, or
// names no cgroup: they are never measured, and may have any power.
func (x *exits) announceUnreadable(ctx context.Context, list []records.Record) {
	found := make(map[string]*unreadable)
	for _, rec := range list {
		if rec.UID != 0 || rec.Err == nil && rec.CgroupPath != "" || !lives(rec) {
			continue // a container that doesn't run has no power
		}
		u := x.unreadable[rec.Bundle]
		if u == nil {
			u = &unreadable{since: time.Now()}
		}
		found[rec.Bundle] = u
		if u.announced || time.Since(u.since) < halfWritten && rec.Err != nil {
			continue // logged, or the record may be half written
		}
		err := x.m.logPower(ctx, rec.Name, rec)
		if u.announced = err == nil; err != nil {
			x.m.Log.Debug("power of a container not logged yet", "container", rec.Name, "error", err)
		}
	}
	x.unreadable = found
}

// logReported logs the containers that engines reported dead, and that ended before
// they could be read.
func (x *exits) logReported(ctx context.Context) {
	x.mu.Lock()
	var due []engines.Event
	for id, e := range x.reportedDead {
		if time.Since(e.At) > reportedAfter {
			due = append(due, e)
			delete(x.reportedDead, id)
		}
	}
	x.mu.Unlock()
	for _, e := range due {
		if err := x.logGone(ctx, e); err != nil {
			x.m.Log.Debug("a container that is gone is not logged yet", "container", e.ID, "error", err)
			if !errors.Is(err, ledger.ErrFull) {
				x.report(e)
			}
		}
	}
}

var errMeasuring = errors.New("it is still being measured")

// logGone logs that a container ran and is gone, and that it may have had any
// power, if the log doesn't name it.
func (x *exits) logGone(ctx context.Context, e engines.Event) error {
	at, err := x.m.Ledger.Snapshot(e.ID)
	if err != nil || at.Owner.Instance != "" {
		return err
	}
	if x.m.awaited.holdsOwner(e.ID) {
		return errMeasuring // its record was read, and its launch follows
	}
	rec := records.Record{ID: e.ID, Name: e.ID, Runtime: e.Runtime, Launch: launch.Launch{Source: logs.SourceNone}}
	instance := "gone." + e.At.UTC().Format("20060102T150405.000000000")
	if err := x.m.appendLaunch(ctx, e.ID, instance, rec, rec.Launch); err != nil {
		return err
	}
	x.log(ctx, e.ID, instance)
	return nil
}
