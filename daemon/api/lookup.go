package api

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/peer"
	"github.com/cima-project/cima/daemon/procfs"
	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/server"
)

// lookup answers about processes that the caller names by number.
type lookup struct{ api *API }

// LookupServer makes the server for agents that ask which container a process is in.
func LookupServer(a *API) *server.Server {
	return a.newServer(lookup{a}.methods(), a.callers.attachLookup)
}

// methods are those of the look-up socket: a group has it, so it makes no quote, and
// tells of one process at a time.
func (l lookup) methods() []server.Method {
	table := []server.Method{server.Define(rpc.MethodLookUpProcess, l.process)}
	for _, m := range methods() {
		if m.name == rpc.MethodWhoAmI {
			table = append(table, m.forCallers(l.api))
		}
	}
	return server.WithDiscovery(l.api.Version, table)
}

// process says which container a process is in. The answer is about the process
// that had the number when the pidfd was opened, and it lives until all else was read.
func (l lookup) process(ctx context.Context, p rpc.ProcessParams) (rpc.ProcessIdentity, error) {
	who, err := l.named(ctx, p)
	if err != nil {
		return rpc.ProcessIdentity{}, explain(refusal(err))
	}
	return who, nil
}

func (l lookup) named(ctx context.Context, p rpc.ProcessParams) (who rpc.ProcessIdentity, err error) {
	who.PID = p.PID
	pidfd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) { // the last two: a thread's number
		return who, rpc.Unattributed("no process %d", p.PID)
	}
	if err != nil {
		return who, err
	}
	defer unix.Close(pidfd)
	if who.Started, err = procfs.Started(p.PID); err != nil {
		return who, rpc.Unattributed("process %d: %v", p.PID, err)
	}
	// The number can't go to another process while this one lives: alive after the start
	// time was read, the start time is its own. Check looks again at the end.
	if err := procfs.Alive(pidfd); err != nil {
		return who, rpc.Unattributed("process %d: %v", p.PID, err)
	}
	if p.Started != 0 && p.Started != who.Started {
		return who, rpc.Unattributed("process %d started at %d, not %d: another process has the number by now", p.PID, who.Started, p.Started)
	}
	c, err := l.api.Peers.IdentifyProcess(ctx, p.PID, pidfd)
	if err != nil {
		return who, err
	}
	defer c.Close()
	if err := l.describe(ctx, c, &who); err != nil {
		return who, err
	}
	return who, c.Check(ctx) // after all else was read
}

func (l lookup) describe(ctx context.Context, c *peer.Caller, who *rpc.ProcessIdentity) error {
	if c.Container == nil {
		if c.TwoUsers {
			return rpc.Unattributed("the uids of process %d differ: it is a set-user-ID program, or goes from one user to another", c.PID)
		}
		who.Host = &rpc.HostClaims{Unit: c.Unit, UID: c.UID}
		return nil
	}
	a := l.api
	i := a.Containers.Use(*c.Container, c.CgroupInode, c.CgroupOwner)
	defer a.Containers.Release(i)
	asker := callerOf(ctx)
	s := &subject{
		owner: i.Owner, instance: i, pidfd: true, checkSame: c.Check, account: asker.account, payer: asker.payer,
	}
	f, err := a.facts(ctx, s) // an unmeasured container is measured first, or nothing is told
	if err != nil {
		return err
	}
	who.Container, who.Source, who.Power = a.identity(ctx, s), f.Source, f.Power
	return nil
}
