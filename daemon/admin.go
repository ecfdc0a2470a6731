package daemon

import (
	"context"
	"time"

	"github.com/cima-project/cima/daemon/containers"
	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/server"
)

// What root asks, on the admin socket only.

func (d *Daemon) adminMethods() []server.Method {
	table := []server.Method{
		server.Define(rpc.MethodListContainers, d.listContainers),
		server.Define(rpc.MethodGetStatus, d.status),
	}
	for _, m := range methods() {
		table = append(table, m.forAdmin(d))
	}
	return server.WithDiscovery(d.opts.Version, table)
}

// methodNames are those of both sockets.
func methodNames() []string {
	names := []string{rpc.MethodListContainers, rpc.MethodGetStatus, rpc.MethodDiscover}
	for _, m := range methods() {
		names = append(names, m.name)
	}
	return names
}

func (d *Daemon) callerMethods() []server.Method {
	var table []server.Method
	for _, m := range methods() {
		table = append(table, m.forCallers(d))
	}
	return server.WithDiscovery(d.opts.Version, table)
}

// listContainers tells of every record, those too that get no evidence, and
// why.
func (d *Daemon) listContainers(ctx context.Context, _ rpc.NoParams) (rpc.ContainerList, error) {
	list := rpc.ContainerList{Containers: []rpc.ContainerStatus{}}
	inTime, cancel := d.inTime(ctx) // in all, not for each
	defer cancel()
	err := d.containers.List(ctx, func(l containers.Listed) bool {
		rec := l.Record
		status := rpc.ContainerStatus{ContainerIdentity: rpc.ContainerIdentity{
			ID: l.Owner, Runtime: rec.Runtime, Cgroup: rec.CgroupPath,
		}}
		switch {
		case rec.Err != nil:
			status.NotReady = rec.Err.Error()
		case rec.InitPID == 0:
			status.NotReady = "not started, or ended"
		case l.Err != nil:
			status.NotReady = l.Err.Error()
		case l.Instance != nil:
			status.Running = true
			d.describe(inTime, l.Instance, &status)
		}
		list.Containers = append(list.Containers, status)
		return true
	})
	return list, err
}

func (d *Daemon) describe(ctx context.Context, i *containers.Instance, status *rpc.ContainerStatus) {
	s := &subject{owner: i.Owner, instance: i, still: func(ctx context.Context) error { return d.containers.CheckRuns(ctx, i) }}
	status.ContainerIdentity = *d.identity(ctx, s)
	at, err := d.ledger.Snapshot(i.Owner)
	switch {
	case err != nil:
		status.NotReady = err.Error()
	case status.LaunchDigest == nil:
		status.NotReady = "not measured yet"
	default:
		status.Register, status.Events = &at.Owner.Register, at.Owner.Events
	}
}

func (d *Daemon) status(_ context.Context, p rpc.StatusParams) (rpc.Status, error) {
	log := d.ledger.Status()
	at, broken := d.ledger.Snapshot("")
	s := rpc.Status{
		Version: d.opts.Version, BootID: d.bootID, Uptime: int64(time.Since(d.started).Seconds()),
		Ready: broken == nil,
		Log: rpc.LogStatus{
			LogClaims: rpc.LogClaims{
				Count: log.Events, Register: at.Register, Public: at.Public, Anchor: d.config().Anchor,
			},
			Consistent: broken == nil,
		},
		Container: d.containers.Count(),
		Calls:     d.counters.calls(),
		Errors:    d.counters.errors(),
	}
	if broken != nil {
		s.Problem, s.Log.Problem = broken.Error(), broken.Error()
	}
	if d.server != nil {
		s.Server = d.server.Counts()
	}
	if p.Metrics {
		s.Metrics = d.metrics(s)
	}
	return s, nil
}
