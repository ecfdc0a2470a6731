package execs

import (
	"context"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/canonical"
)

// rootsInterval is the time between two searches for containers that the gate did
// not see.
const rootsInterval = 2 * time.Second

// follow finds containers that run and that the gate did not see, and evicts those
// that are gone.
func (x *Manager) follow(ctx context.Context) {
	for ctx.Err() == nil {
		x.BeforeLaunch(ctx)
		if list, err := x.Records().List(ctx); err == nil {
			x.evict(list)
			for _, rec := range list {
				if rec.Err == nil && rec.InitPID != 0 && rec.CgroupPath != "" {
					x.catchUp(ctx, rec)
				}
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(rootsInterval):
		}
	}
}

func (x *Manager) evict(list []records.Record) {
	live := make(map[string]bool, len(list))
	for _, rec := range list {
		live[rec.Name] = true
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

// catchUp watches a container that runs already from now on, and hashes what it
// runs. A container of a user is passed over: its root file system is the user's.
func (x *Manager) catchUp(ctx context.Context, rec records.Record) {
	if w := x.of(rec.Name); w != nil && w.start == rec.StartKey() {
		return
	}
	instance, ok := x.Instances.LoggedOf(ctx, rec)
	if !ok {
		return // the next time, if it runs
	}
	w := x.watch(ctx, rec, instance)
	if x.ima != nil {
		return // the IMA log has everything since the boot
	}
	x.gap(ctx, w, logs.ExecBody{Missed: errRanBefore.Error()})
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && ctx.Err() == nil {
			x.catchUpProcess(ctx, w, rec, pid)
		}
	}
}

// catchUpProcess hashes the executable of a process, if it is the container's.
func (x *Manager) catchUpProcess(ctx context.Context, w *watchedRoot, rec records.Record, pid int) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(pidfd)
	c, err := x.Peers.IdentifyProcess(ctx, pid, pidfd)
	if err != nil {
		return
	}
	defer c.Close()
	if c.Container == nil || c.Container.Name != rec.Name {
		return
	}
	path, digest, err := x.roots.MeasureProcess(ctx, pid)
	e := logs.ExecBody{Late: true, Path: path}
	if err != nil {
		e.Missed = publicReason(err)
	} else {
		e.SHA384 = (*canonical.Digest)(&digest)
	}
	if !c.Alive() { // the file may have been another process's
		return
	}
	if err := x.log(ctx, w, e); err != nil {
		x.gap(ctx, w, logs.ExecBody{Late: true, Path: path, Missed: publicReason(err)})
	}
}
