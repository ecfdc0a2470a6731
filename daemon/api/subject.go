package api

import (
	"context"
	"fmt"

	"github.com/cima-project/cima/daemon/containers"
	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/server"
)

// subject is whom an answer is about: the caller itself, always; on the admin
// socket also a container that root names.
type subject struct {
	owner    string               // as the runtime log names the container; "" on the host
	instance *containers.Instance // nil on the host
	pidfd    bool                 // the kernel named the very process that asks
	unit     string               // systemd unit of a host process
	uid      uint32

	account *account // who pays for it
	payer   string   // the account's name
	still   func(context.Context) error
	done    func() // gives back what named took; nil for a caller
}

// setSubjects fills in the caller as whom its own answers are about.
func (c *caller) setSubjects() {
	c.own = subject{
		owner: c.owner, instance: c.instance, pidfd: c.PIDFD, unit: c.Unit, uid: c.UID,
		account: c.account, payer: c.payer, still: c.Check,
	}
}

// facts are those of the subject's instance, measured first where they aren't
// known yet.
func (a *API) facts(ctx context.Context, s *subject) (*containers.Facts, error) {
	if f := a.Containers.FactsNow(s.instance); f != nil {
		return f, nil
	}
	if err := server.MayWait(ctx); err != nil {
		return nil, err
	}
	return a.Containers.Facts(ctx, s.instance, s.still)
}

// named is a running container that root asks about.
func (a *API) named(ctx context.Context, id string) (*subject, error) {
	i, err := a.Containers.Find(ctx, id)
	if err != nil {
		return nil, err
	}
	if i == nil {
		return nil, rpc.InvalidParams("container_id", "no container %q runs: `cimactl containers` lists those that do", id)
	}
	asker := callerOf(ctx)
	return &subject{
		owner: i.Owner, instance: i, account: asker.account, payer: asker.payer,
		still: func(ctx context.Context) error { return a.Containers.CheckRuns(ctx, i) },
		done:  func() { a.Containers.Release(i) },
	}, nil
}

// queue is the name by which quotes are shared out fairly: by container, not
// by connection.
func (s *subject) queue() string { return s.payer }

// cgroup is the one that the subject's record declares, "" on the host.
func (s *subject) cgroup() string {
	if s.instance == nil {
		return ""
	}
	return s.instance.Container.CgroupPath
}

func (s *subject) String() string {
	if s.instance != nil {
		return s.owner
	}
	return fmt.Sprintf("host uid %d", s.uid)
}
