package api

import (
	"context"
	"fmt"

	"github.com/cima-project/cima/daemon/containers"
	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/server"
)

// subject is the container or the process of the host that an answer is about. It is
// the caller itself; on the admin socket it may be a container that root names.
type subject struct {
	owner    string               // name of the container in the runtime log; "" on the host
	instance *containers.Instance // nil on the host
	pidfd    bool                 // the kernel named the very process that asks
	unit     string               // systemd unit of a host process
	uid      uint32

	account *account // who pays for it
	payer   string   // the account's name
	// checkSame checks that the subject is still what it was when it was named.
	checkSame func(context.Context) error
	done      func() // gives back what named took; nil for a caller
}

// setSubject makes the caller the subject of its own answers.
func (c *caller) setSubject() {
	c.own = subject{
		owner: c.owner, instance: c.instance, pidfd: c.PIDFD, unit: c.Unit, uid: c.UID,
		account: c.account, payer: c.payer, checkSame: c.Check,
	}
}

// facts are the facts of the subject's instance. An instance that isn't measured yet
// is measured first.
func (a *API) facts(ctx context.Context, s *subject) (*containers.Facts, error) {
	if f := a.Containers.FactsNow(s.instance); f != nil {
		return f, nil
	}
	if err := server.MayWait(ctx); err != nil {
		return nil, err
	}
	return a.Containers.Facts(ctx, s.instance, s.checkSame)
}

// named is the running container that root asks about.
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
		checkSame: func(ctx context.Context) error { return a.Containers.CheckRuns(ctx, i) },
		done:      func() { a.Containers.Release(i) },
	}, nil
}

// queue is the key of the queue for quotes: callers take turns by payer, not by
// connection.
func (s *subject) queue() string { return s.payer }

// cgroup is the cgroup that the subject's record declares, "" on the host.
func (s *subject) cgroup() string {
	if s.instance == nil {
		return ""
	}
	return s.instance.Container.CgroupPath
}

// Payer names who pays for messages about the subject.
func (s *subject) Payer() string { return s.payer }

func (s *subject) String() string {
	if s.instance != nil {
		return s.owner
	}
	return fmt.Sprintf("host uid %d", s.uid)
}
