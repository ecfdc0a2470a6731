package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/daemon/oslog"
	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/ima"
	"github.com/cima-project/cima/rpc"
)

// imaSource are exec events from the kernel's IMA log, where a patched kernel
// writes the cgroup of who executed into each entry (template ima-cgpath). The
// kernel measured, and extended RTMR2, before the program ran; nobody is held.
// What is logged here is what the log had: each file once, for whoever was the
// first to execute it since it changed.
type imaSource struct {
	log     *oslog.Tail
	reading lock // held while the log is read on; over the rest

	fresh   []imaExec // read, and not looked at yet
	pending []imaExec // of containers whose launch isn't logged yet
	skipped int64     // entries that could not be read
	lost    bool      // of pending
	failed  error     // the log can't be followed
}

// imaExec is an entry: whose, and its event.
type imaExec struct {
	cgroup string // as the kernel writes it: underscores for spaces
	event  logs.ExecBody
}

// maxPending bounds the entries kept for launches to come.
const maxPending = 4096

var (
	errNoCgroups = errors.New("its entries don't name cgroups: the kernel has no template ima-cgpath, or ima_template doesn't say it")
	errIMALost   = errors.New("the IMA log could not be followed")
)

// openIMASource reads what the log has by now. Its first entry, boot_aggregate,
// tells the template.
func openIMASource(dir string) (*imaSource, error) {
	s := &imaSource{reading: newLock()}
	named := false
	var err error
	s.log, err = oslog.Follow(dir, func(e *ima.Entry) {
		cgroup, ok := e.CgroupPath()
		named = named || ok
		if x, ok := execOf(e); ok && len(cgroup) > 1 {
			s.fresh = append(s.fresh, imaExec{string(cgroup), x})
		}
	})
	if err != nil {
		return nil, err
	}
	if _, err = s.log.Update(); err == nil && !named {
		err = errNoCgroups
	}
	if err != nil {
		s.log.Close()
		return nil, fmt.Errorf("IMA log: %w", err)
	}
	return s, nil
}

// execOf is an entry as an exec event. A violation says that somebody had the
// file open for writing, and its digest is of nothing.
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

// settleIMA logs what the IMA log has by now.
func (x *execs) settleIMA(ctx context.Context) error {
	s := x.ima
	if err := s.reading.take(ctx); err != nil {
		return err
	}
	defer s.reading.give()
	if s.failed == nil {
		_, s.failed = s.log.Update()
	}
	if n := s.log.Skipped(); s.failed != nil || n != s.skipped {
		s.skipped = n
		for _, w := range x.all() {
			x.gap(ctx, w, logs.ExecBody{Missed: errIMALost.Error()})
		}
	}
	if len(s.fresh)+len(s.pending) == 0 {
		return nil
	}
	records, err := x.g.d.store().List(ctx)
	if err != nil {
		return err
	}
	byCgroup := x.byCgroup(records)
	todo := append(s.pending, s.fresh...)
	s.pending, s.fresh = nil, nil
	for i, e := range todo {
		rec, ok := above(byCgroup, e.cgroup)
		if !ok {
			continue // the host's, or of one that is gone
		}
		w := x.of(rec.ID)
		if rec.InitPID != 0 && (w == nil || w.start != startKey(rec)) {
			s.keep(e) // until its launch is logged
			continue
		}
		if w == nil {
			continue // nothing of it has run
		}
		if err := x.say(ctx, w, e.event); err != nil {
			if errors.Is(err, ledger.ErrReplaced) {
				s.keep(e) // launched anew, and that one isn't watched yet
				continue
			}
			if ctx.Err() != nil {
				s.pending = append(s.pending, todo[i:]...)
				return err
			}
			x.gap(ctx, w, logs.ExecBody{Path: e.event.Path, Missed: reason(err)})
		}
	}
	return nil
}

// before logs what the kernel told before a launch: that is of the instance
// before it.
func (x *execs) before(ctx context.Context) {
	if x.ima == nil {
		return
	}
	if err := x.settleIMA(ctx); err != nil {
		x.g.d.log.Warn("what the IMA log tells of executions is not logged yet", "error", err)
	}
}

// keep is for what can't be logged yet; under reading.
func (s *imaSource) keep(e imaExec) {
	if len(s.pending) >= maxPending {
		s.pending, s.lost = s.pending[1:], true
	}
	s.pending = append(s.pending, e)
}

// byCgroup are the containers that entries can be of: those that have a record,
// and before the new one runs, or when it is gone, those that had.
func (x *execs) byCgroup(list []records.Record) map[string]records.Record {
	by := make(map[string]records.Record)
	for _, w := range x.all() {
		by[w.cgroup] = records.Record{ID: w.owner}
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

// above is the container with the longest cgroup at or above a path.
func above(byCgroup map[string]records.Record, path string) (records.Record, bool) {
	for path != "" {
		if rec, ok := byCgroup[path]; ok {
			return rec, true
		}
		path = path[:max(strings.LastIndexByte(path, '/'), 0)]
	}
	return records.Record{}, false
}

// watchIMA has a container's entries logged from now on, and those that are
// pending.
func (x *execs) watchIMA(ctx context.Context, w *watchedRoot) {
	s := x.ima
	events, err := x.g.d.ledger.Events(w.owner)
	if err != nil {
		x.gap(ctx, w, logs.ExecBody{Missed: reason(err)})
	}
	for _, e := range events { // a former run of the daemon logged them
		var known logs.ExecBody
		if e.Operation == logs.OpExec && json.Unmarshal(e.Body(), &known) == nil {
			w.said.Store(keyOf(known), true)
		}
	}
	if err := s.reading.take(ctx); err != nil {
		x.gap(ctx, w, logs.ExecBody{Missed: reason(err)})
		return
	}
	defer s.reading.give()
	if s.lost {
		x.gap(ctx, w, logs.ExecBody{Missed: errIMALost.Error()})
	}
}
