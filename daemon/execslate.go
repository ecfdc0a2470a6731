package daemon

import (
	"context"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// follow finds containers that run and that the gate did not see, and forgets
// those that are gone.
func (x *execs) follow(ctx context.Context) {
	for ctx.Err() == nil {
		x.before(ctx)
		if records, err := x.g.d.store().List(ctx); err == nil {
			x.forget(records)
			for _, rec := range records {
				if rec.Err == nil && rec.InitPID != 0 && rec.CgroupPath != "" {
					x.late(ctx, rec)
				}
			}
		}
		pause(ctx, lookForRoots)
	}
}

func (x *execs) forget(records []records.Record) {
	live := make(map[string]bool, len(records))
	for _, rec := range records {
		live[rec.ID] = true
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for owner := range x.watched {
		if !live[owner] {
			delete(x.watched, owner)
		}
	}
	for device, w := range x.devices {
		if x.watched[w.owner] != w {
			delete(x.devices, device)
		}
	}
}

// late watches a container from now on, and hashes what it runs.
func (x *execs) late(ctx context.Context, rec records.Record) {
	d := x.g.d
	r, err := d.peers.Running(ctx, containerOf(rec))
	if err != nil || rec.UID != 0 || r.CgroupOwner != 0 {
		return // ended; or a user's, whose root file system is the user's
	}
	if w := x.of(rec.ID); w != nil && w.start == startKey(rec) {
		return
	}
	i := d.instances.use(containerOf(rec), r.Instance, r.CgroupOwner)
	defer d.instances.release(i)
	s, err := d.ledger.Snapshot(i.owner)
	if err != nil || !x.g.same(s.Owner.Instance, rec, i) {
		return // it will be, the next time
	}
	w := x.watch(ctx, rec, s.Owner.Instance)
	if x.ima != nil {
		return // the log has all since the boot
	}
	x.gap(ctx, w, logs.ExecBody{Missed: errRanBefore.Error()})
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && ctx.Err() == nil {
			x.lateProcess(ctx, w, rec, pid)
		}
	}
}

// lateProcess hashes the executable of one process, if it is the container's.
func (x *execs) lateProcess(ctx context.Context, w *watchedRoot, rec records.Record, pid int) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(pidfd)
	c, err := x.g.d.peers.IdentifyProcess(ctx, pid, pidfd)
	if err != nil {
		return
	}
	defer c.Close()
	if c.Container == nil || c.Container.ID != rec.ID {
		return
	}
	path, digest, err := x.roots.MeasureProcess(ctx, pid)
	e := logs.ExecBody{Late: true, Path: path}
	if err != nil {
		e.Missed = reason(err)
	} else {
		e.SHA384 = (*rpc.Digest)(&digest)
	}
	if !c.Alive() { // the file may have been another's
		return
	}
	if err := x.say(ctx, w, e); err != nil {
		x.gap(ctx, w, logs.ExecBody{Late: true, Path: path, Missed: reason(err)})
	}
}
