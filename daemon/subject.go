package daemon

import (
	"context"
	"fmt"

	"github.com/cima-project/cima/daemon/containers"
	"github.com/cima-project/cima/daemon/peer"
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

// Containers tells what is known of containers; *containers.Manager does.
type Containers interface {
	Use(c peer.Container, inode uint64, cgroupOwner uint32) *containers.Instance
	Release(*containers.Instance)
	Facts(ctx context.Context, i *containers.Instance, checkSame func(context.Context) error) (*containers.Facts, error)
	FactsNow(*containers.Instance) *containers.Facts
	CheckRuns(context.Context, *containers.Instance) error
	Find(ctx context.Context, owner string) (*containers.Instance, error)
	List(context.Context, func(containers.Listed) bool) error
	Count() int
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
func (d *Daemon) facts(ctx context.Context, s *subject) (*containers.Facts, error) {
	if f := d.containers.FactsNow(s.instance); f != nil {
		return f, nil
	}
	if err := server.MayWait(ctx); err != nil {
		return nil, err
	}
	return d.containers.Facts(ctx, s.instance, s.still)
}

// named is a running container that root asks about.
func (d *Daemon) named(ctx context.Context, id string) (*subject, error) {
	i, err := d.containers.Find(ctx, id)
	if err != nil {
		return nil, err
	}
	if i == nil {
		return nil, rpc.InvalidParams("container_id", "no container %q runs: `cimactl containers` lists those that do", id)
	}
	asker := callerOf(ctx)
	return &subject{
		owner: i.Owner, instance: i, account: asker.account, payer: asker.payer,
		still: func(ctx context.Context) error { return d.containers.CheckRuns(ctx, i) },
		done:  func() { d.containers.Release(i) },
	}, nil
}

// method is one row of the method table.
type method struct {
	name   string
	access access
	inline bool                          // its answer to the caller is mostly in memory
	own    func(d *Daemon) server.Method // about the caller
	named  func(d *Daemon) server.Method // on the admin socket: about a container, or the caller
	gives  []any                         // where the function's type doesn't tell
}

// about makes a row of a function that answers about a subject.
func about[P, R any, PP interface {
	*P
	rpc.Params
}](name string, a access, f func(*Daemon, context.Context, *subject, P) (R, error)) method {
	answer := func(ctx context.Context, d *Daemon, s *subject, p P) (r R, err error) {
		if err := d.allowed(ctx, s, name, a); err != nil {
			return r, explain(err)
		}
		r, err = f(d, ctx, s, p)
		return r, explain(err)
	}
	return method{
		name: name, access: a,
		own: func(d *Daemon) server.Method {
			return server.Define[P, R, PP](name, func(ctx context.Context, p P) (R, error) {
				return answer(ctx, d, &callerOf(ctx).own, p)
			})
		},
		named: func(d *Daemon) server.Method {
			return server.DefineAdmin[P, R, PP](name, func(ctx context.Context, id string, p P) (r R, err error) {
				s := &callerOf(ctx).own
				if id != "" {
					if s, err = d.named(ctx, id); err != nil {
						return r, explain(err)
					}
					defer s.done()
				}
				return answer(ctx, d, s, p)
			})
		},
	}
}

// giving says what a function gives whose type doesn't tell.
func (m method) giving(results ...any) method {
	m.gives = results
	return m
}

// inlined marks a row whose answers mostly need no wait.
func (m method) inlined() method {
	m.inline = true
	return m
}

// forCallers and forAdmin make the method of each socket.
func (m method) forCallers(d *Daemon) server.Method {
	made := m.own(d)
	made.Inline = m.inline
	if m.gives != nil {
		made.Results = m.gives
	}
	return made
}

func (m method) forAdmin(d *Daemon) server.Method {
	made := m.named(d)
	if m.gives != nil {
		made.Results = m.gives
	}
	return made
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
