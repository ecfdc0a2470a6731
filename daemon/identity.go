package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/cima-project/cima/daemon/containers"
	"github.com/cima-project/cima/daemon/peer"
	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/rpc"
)

// recordSource lets the peer room ask the launch room: what the walls keep apart.
type recordSource struct{ store func() *records.Store }

func (r recordSource) Declared(ctx context.Context, cgroupPath string) (peer.Container, bool, error) {
	rec, ok, err := r.store().Declared(ctx, cgroupPath)
	if err != nil || !ok {
		return peer.Container{}, false, err
	}
	return containers.Of(rec), true, nil
}

// caller is who is on a connection.
type caller struct {
	*peer.Caller
	owner    string               // as the runtime log names the container; "" on the host
	instance *containers.Instance // of the container; nil on the host
	account  *account
	payer    string // the account's name
	admin    bool

	own subject // whom its own answers are about
}

type callerKey struct{}

// callerOf returns the caller that attach put into the context.
func callerOf(ctx context.Context) *caller { return ctx.Value(callerKey{}).(*caller) }

// attach names the caller of a new connection, once.
func (d *Daemon) attach(ctx context.Context, conn *net.UnixConn) (context.Context, func(), error) {
	p, err := d.peers.Identify(ctx, conn)
	if err != nil {
		ctx, release := d.stranger(ctx, conn, err)
		return ctx, release, refusal(err)
	}
	c := &caller{Caller: p}
	if p.Container != nil {
		c.instance = d.containers.Use(*p.Container, p.Instance, p.CgroupOwner)
		c.owner = c.instance.Owner
	}
	c.payer = c.charged()
	c.account = d.accounts.use(c.payer)
	c.setSubjects()
	release := func() {
		d.accounts.release(c.account)
		if c.instance != nil {
			d.containers.Release(c.instance)
		}
		p.Close()
	}
	// What is attached outlives the identifying, whose deadline ctx has.
	return context.WithValue(context.WithoutCancel(ctx), callerKey{}, c), release, nil
}

type strangerKey struct{}

// stranger has who was refused pay for what the refusals cost, by uid.
func (d *Daemon) stranger(ctx context.Context, conn *net.UnixConn, refused error) (context.Context, func()) {
	key := unattributed
	if uid, ok := d.peers.User(conn); ok {
		key = fmt.Sprintf("%s uid %d", unattributed, uid)
	}
	a := d.accounts.useStranger(key)
	d.tellRefused(a, "caller refused", "caller", a.name, "error", refused)
	return context.WithValue(context.WithoutCancel(ctx), strangerKey{}, a), func() { d.accounts.release(a) }
}

// attachAdmin takes root on the host only: the directory keeps others away,
// and this says so again.
func (d *Daemon) attachAdmin(ctx context.Context, conn *net.UnixConn) (context.Context, func(), error) {
	ctx, release, err := d.attach(ctx, conn)
	if err != nil {
		return ctx, release, err
	}
	c := callerOf(ctx)
	if c.Container != nil || c.UID != 0 && c.UID != ownUID() {
		return ctx, release, rpc.Denied("the admin socket answers root on the host only")
	}
	c.admin = true
	return ctx, release, nil
}

func refusal(err error) error {
	if errors.Is(err, peer.ErrUnattributed) {
		return rpc.Unattributed("%v", err).Because(err)
	}
	return err
}

// charged is whom the caller's use is charged to (rule 8): the container, or the
// owning uid where its cgroup chain isn't root's, or the user on the host.
func (c *caller) charged() string {
	switch {
	case c.Container == nil:
		return fmt.Sprintf("uid %d", c.User)
	case c.CgroupOwner != 0:
		return fmt.Sprintf("uid %d", c.CgroupOwner)
	case c.Container.UID != 0:
		return fmt.Sprintf("uid %d", c.Container.UID)
	}
	return c.owner
}

// before runs before each request: the caller must still be who it was, and
// within its rate.
func (d *Daemon) before(ctx context.Context, method string) error {
	c, ok := ctx.Value(callerKey{}).(*caller)
	if !ok {
		return d.withinRate(d.payerOf(ctx))
	}
	if err := c.Check(ctx); err != nil {
		return refusal(err)
	}
	return d.withinRate(c.account)
}

func (d *Daemon) withinRate(a *account) error {
	if wait := take(a.requests); wait > 0 {
		return rpc.RateLimited(wait, "more than %g requests a second: ask again in %v",
			d.config().Limits.RequestsPerSecond, wait.Round(time.Millisecond))
	}
	return nil
}

// payerOf is the account of a caller, or of who was refused.
func (d *Daemon) payerOf(ctx context.Context) *account {
	if c, ok := ctx.Value(callerKey{}).(*caller); ok {
		return c.account
	}
	if a, ok := ctx.Value(strangerKey{}).(*account); ok {
		return a
	}
	return d.accounts.nobody
}

// after writes the journal: one line for evidence, extends and refusals. A flood
// must not become a flood of lines.
func (d *Daemon) after(ctx context.Context, method string, took time.Duration, refused *rpc.Error, cause error) {
	d.counters.count(method, took, refused)
	if refused == nil && cause == nil && !d.log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	args := []any{"method", method, "duration", took}
	if c, ok := ctx.Value(callerKey{}).(*caller); ok {
		args = append(args, "caller", c.payer, "pid", c.PID)
	} else {
		args = append(args, "caller", d.payerOf(ctx).name)
	}
	switch {
	case cause != nil:
		d.tellFailed(d.payerOf(ctx), "call failed", append(args, "code", int(refused.Code), "error", cause)...)
	case refused != nil && refused.Code == rpc.CodeRateLimited:
		d.log.Debug("call refused", append(args, "code", int(refused.Code), "error", refused)...)
	case refused != nil:
		d.tellRefused(d.payerOf(ctx), "call refused", append(args, "code", int(refused.Code), "error", refused)...)
	default:
		d.log.Debug("call answered", args...)
	}
}
