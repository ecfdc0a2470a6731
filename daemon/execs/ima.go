package execs

import (
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sync/semaphore"

	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/daemon/oslog"
	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/ima"
	"github.com/cima-project/cima/rpc"
)

// imaSource is the kernel's IMA log as the source of exec events: a patched kernel
// writes the cgroup of the process that executed into each entry (template
// ima-cgpath). The kernel measured, and extended RTMR2, before the program ran;
// nothing is held. The kernel logs each file once, for the first process that
// executes it after it changed.
type imaSource struct {
	tail    *oslog.Tail
	reading *semaphore.Weighted // of 1: held while the log is read; guards the rest

	fresh   []imaExec // read, and not looked at yet
	pending []imaExec // of containers whose launch isn't logged yet
	skipped int64     // entries that could not be read
	lost    bool      // entries were dropped from pending
	failed  error     // the log can't be followed
}

// imaExec is an entry: its cgroup and its event.
type imaExec struct {
	cgroup string // as the kernel writes it: underscores for spaces
	event  logs.ExecBody
}

// maxPending bounds the entries stored for launches to come.
const maxPending = 4096

var errNoCgroups = errors.New("its entries must name cgroups: boot a kernel that has the template ima-cgpath, with ima_template=ima-cgpath")

// openIMASource reads what the log below dir has by now. The entries that are there
// tell whether the template names cgroups.
func openIMASource(dir string) (*imaSource, error) {
	s := &imaSource{reading: semaphore.NewWeighted(1)}
	named := false
	var err error
	s.tail, err = oslog.Follow(dir, func(e *ima.Entry) {
		cgroup, ok := e.CgroupPath()
		named = named || ok
		if x, ok := execOf(e); ok && len(cgroup) > 1 {
			s.fresh = append(s.fresh, imaExec{string(cgroup), x})
		}
	})
	if err != nil {
		return nil, err
	}
	if _, err = s.tail.Update(); err == nil && !named {
		err = errNoCgroups
	}
	if err != nil {
		s.tail.Close()
		return nil, fmt.Errorf("IMA log: %w", err)
	}
	return s, nil
}

// execOf makes an exec event of an entry. A violation says that somebody had the
// file open for writing: its digest means nothing.
func execOf(e *ima.Entry) (x logs.ExecBody, ok bool) {
	for _, f := range e.Fields() {
		switch f.ID {
		case "n-ng", "n":
			x.Path, ok = f.Text, true
		case "d-ng":
			x.Digest = f.Text
		}
	}
	if e.Violation {
		x.Writable, x.Digest = true, ""
	}
	if hex, is := strings.CutPrefix(x.Digest, "sha384:"); is {
		var d rpc.Digest
		if d.UnmarshalText([]byte(hex)) != nil {
			return logs.ExecBody{}, false
		}
		x.SHA384, x.Digest = &d, ""
	}
	return x, ok
}

// flushIMA logs what the IMA log has by now.
func (x *Manager) flushIMA(ctx context.Context) error {
	s := x.ima
	if err := s.reading.Acquire(ctx, 1); err != nil {
		return err
	}
	defer s.reading.Release(1)
	if s.failed == nil {
		_, s.failed = s.tail.Update()
	}
	if n := s.tail.Skipped(); s.failed != nil || n != s.skipped {
		s.skipped = n
		for _, w := range x.all() {
			x.gap(ctx, w, logs.ExecBody{Missed: errIMALost.Error()})
		}
	}
	if len(s.fresh)+len(s.pending) == 0 {
		return nil
	}
	list, err := x.Records().List(ctx)
	if err != nil {
		return err
	}
	byCgroup := x.byCgroup(list)
	todo := append(s.pending, s.fresh...)
	s.pending, s.fresh = nil, nil
	for i, e := range todo {
		if err := x.logEntry(ctx, byCgroup, e); err != nil {
			s.pending = append(s.pending, todo[i:]...)
			return err
		}
	}
	return nil
}

// logEntry logs an entry as an event of its container, or stores it until the
// container's launch is logged. An error says that ctx ended; under reading.
func (x *Manager) logEntry(ctx context.Context, byCgroup map[string]records.Record, e imaExec) error {
	rec, ok := above(byCgroup, e.cgroup)
	if !ok {
		return nil // the host's, or of a container that is gone
	}
	w := x.of(rec.Name)
	if rec.InitPID != 0 && (w == nil || w.start != rec.StartKey()) {
		x.ima.store(e) // until its launch is logged
		return nil
	}
	if w == nil {
		return nil // nothing of the container has run
	}
	err := x.log(ctx, w, e.event)
	switch {
	case err == nil:
	case errors.Is(err, ledger.ErrReplaced):
		x.ima.store(e) // launched anew, and the new instance isn't watched yet
	case ctx.Err() != nil:
		return err
	default:
		x.gap(ctx, w, logs.ExecBody{Path: e.event.Path, Missed: publicReason(err)})
	}
	return nil
}

// BeforeLaunch logs what the kernel measured before a launch: it belongs to the
// instance before.
func (x *Manager) BeforeLaunch(ctx context.Context) {
	if x.ima == nil {
		return
	}
	if err := x.flushIMA(ctx); err != nil {
		x.Log.Warn("the IMA log's executions are not logged yet", "error", err)
	}
}

// store stores what can't be logged yet; under reading.
func (s *imaSource) store(e imaExec) {
	if len(s.pending) >= maxPending {
		s.pending, s.lost = s.pending[1:], true
	}
	s.pending = append(s.pending, e)
}

// byCgroup returns the containers that entries can be of: those that have a record,
// and those that had one, until the new one runs.
func (x *Manager) byCgroup(list []records.Record) map[string]records.Record {
	by := make(map[string]records.Record)
	for _, w := range x.all() {
		by[w.cgroup] = records.Record{Name: w.owner}
	}
	for _, rec := range list {
		if rec.Err == nil && rec.CgroupPath != "" && rec.UID == 0 {
			by[kernelsName(rec.CgroupPath)] = rec
		}
	}
	return by
}

// kernelsName is a cgroup path as the kernel's templates write it.
func kernelsName(path string) string { return strings.ReplaceAll(path, " ", "_") }

// above returns the container with the longest cgroup at or above a path.
func above(byCgroup map[string]records.Record, path string) (records.Record, bool) {
	for path != "" {
		if rec, ok := byCgroup[path]; ok {
			return rec, true
		}
		path = path[:max(strings.LastIndexByte(path, '/'), 0)]
	}
	return records.Record{}, false
}

// watchIMA has a container's entries logged from now on, and those that are pending.
func (x *Manager) watchIMA(ctx context.Context, w *watchedRoot) {
	s := x.ima
	events, err := x.Ledger.Events(w.owner)
	if err != nil {
		x.gap(ctx, w, logs.ExecBody{Missed: publicReason(err)})
	}
	for _, e := range events { // a former run of the daemon logged them
		var known logs.ExecBody
		if e.Operation == logs.OpExec && json.Unmarshal(e.Body(), &known) == nil {
			w.logged.Store(keyOf(known), true)
		}
	}
	if err := s.reading.Acquire(ctx, 1); err != nil {
		x.gap(ctx, w, logs.ExecBody{Missed: publicReason(err)})
		return
	}
	defer s.reading.Release(1)
	if s.lost {
		x.gap(ctx, w, logs.ExecBody{Missed: errIMALost.Error()})
	}
}
