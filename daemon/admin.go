package daemon

import (
	"context"
	"time"

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
	records, err := d.store().List(ctx)
	if err != nil {
		return list, err
	}
	inTime, cancel := d.inTime(ctx) // in all, not for each
	defer cancel()
	for _, rec := range records {
		c := containerOf(rec)
		status := rpc.ContainerStatus{ContainerIdentity: rpc.ContainerIdentity{
			ID: ownerName(c, 0), Runtime: rec.Runtime, Cgroup: rec.CgroupPath,
		}}
		r, err := d.peers.Running(ctx, c)
		switch {
		case rec.Err != nil:
			status.NotReady = rec.Err.Error()
		case rec.InitPID == 0:
			status.NotReady = "not started, or ended"
		case err != nil:
			status.NotReady = err.Error()
		default:
			status.Running = true
			i := d.instances.use(c, r.Instance, r.CgroupOwner)
			d.describe(inTime, i, &status)
			d.instances.release(i)
		}
		list.Containers = append(list.Containers, status)
	}
	return list, nil
}

func (d *Daemon) describe(ctx context.Context, i *instance, status *rpc.ContainerStatus) {
	s := &subject{owner: i.owner, instance: i, still: func(ctx context.Context) error { return d.stillRuns(ctx, i) }}
	status.ContainerIdentity = *d.identity(ctx, s)
	at, err := d.ledger.Snapshot(i.owner)
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
		Container: d.instances.count(),
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

func (is *instances) count() int {
	is.mu.Lock()
	defer is.mu.Unlock()
	return len(is.byKey)
}
