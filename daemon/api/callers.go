package api

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/containers"
	"github.com/cima-project/cima/daemon/peer"
	"github.com/cima-project/cima/rpc"
)

// caller is the process that connected, and who pays for it.
type caller struct {
	*peer.Caller
	owner    string               // as the runtime log names the container; "" on the host
	instance *containers.Instance // of the container; nil on the host
	account  *account
	payer    string // the account's name
	admin    bool

	own subject // whom its own answers are about
}

// callers names the caller of each connection, and charges what it does.
type callers struct {
	peers      *peer.Identifier
	containers Containers
	accounts   *accounts
	counters   *counters
	config     func() *config.Config
	log        *slog.Logger
}

type callerKey struct{}

// callerOf returns the caller that attach put into the context.
func callerOf(ctx context.Context) *caller { return ctx.Value(callerKey{}).(*caller) }

// attach names the caller of a new connection, once.
func (cs *callers) attach(ctx context.Context, conn *net.UnixConn) (context.Context, func(), error) {
	p, err := cs.peers.Identify(ctx, conn)
	if err != nil {
		ctx, release := cs.stranger(ctx, conn, err)
		return ctx, release, refusal(err)
	}
	c := &caller{Caller: p}
	if p.Container != nil {
		c.instance = cs.containers.Use(*p.Container, p.CgroupInode, p.CgroupOwner)
		c.owner = c.instance.Owner
	}
	c.payer = p.Payer
	c.account = cs.accounts.use(c.payer)
	c.setSubject()
	release := func() {
		cs.accounts.release(c.account)
		if c.instance != nil {
			cs.containers.Release(c.instance)
		}
		p.Close()
	}
	// ctx has the deadline of the identification; the connection lives longer.
	return context.WithValue(context.WithoutCancel(ctx), callerKey{}, c), release, nil
}

type strangerKey struct{}

// stranger charges a caller that was refused for what the refusals cost, by where it is:
// one container has many uids.
func (cs *callers) stranger(ctx context.Context, conn *net.UnixConn, refused error) (context.Context, func()) {
	key := unattributed
	if origin, ok := cs.peers.OriginOf(conn); ok {
		key += " " + origin
	}
	a := cs.accounts.useStranger(key)
	cs.log.Info("caller refused", "caller", a.name, "error", refused)
	return context.WithValue(context.WithoutCancel(ctx), strangerKey{}, a), func() { cs.accounts.release(a) }
}

// attachAdmin accepts root on the host only. The mode of the socket's folder keeps
// others away; this is the second check.
func (cs *callers) attachAdmin(ctx context.Context, conn *net.UnixConn) (context.Context, func(), error) {
	ctx, release, err := cs.attach(ctx, conn)
	if err != nil {
		return ctx, release, err
	}
	c := callerOf(ctx)
	if c.Container != nil || c.UID != 0 && c.UID != uint32(os.Geteuid()) {
		return ctx, release, rpc.Denied("the admin socket answers root on the host only: a container mounts /run/cima, and never /run/cima-admin")
	}
	c.admin = true
	return ctx, release, nil
}

// attachLookup accepts processes of the host only. Modes of the socket and its directory
// say which: root, and the group cima-lookup.
func (cs *callers) attachLookup(ctx context.Context, conn *net.UnixConn) (context.Context, func(), error) {
	ctx, release, err := cs.attach(ctx, conn)
	if err != nil {
		return ctx, release, err
	}
	if callerOf(ctx).Container != nil {
		return ctx, release, rpc.Denied("the look-up socket answers processes of the host only: a container mounts /run/cima, and never /run/cima-lookup")
	}
	return ctx, release, nil
}

func refusal(err error) error {
	if errors.Is(err, peer.ErrUnattributed) {
		return rpc.Unattributed("%v", err).Because(err)
	}
	return err
}

// before runs before each request. It refuses a caller that is no longer the process
// that connected, or that is over its rate.
func (cs *callers) before(ctx context.Context, method string) error {
	c, ok := ctx.Value(callerKey{}).(*caller)
	if !ok {
		return cs.withinRate(cs.payerOf(ctx))
	}
	if err := c.Check(ctx); err != nil {
		return refusal(err)
	}
	return cs.withinRate(c.account)
}

func (cs *callers) withinRate(a *account) error {
	if wait := acquire(a.requests); wait > 0 {
		return rpc.RateLimited(wait, "more than %g requests a second: ask again in %v",
			float64(a.requests.Limit()), wait.Round(time.Millisecond))
	}
	return nil
}

// payerOf is the account of a caller, also of one that was refused.
func (cs *callers) payerOf(ctx context.Context) *account {
	if c, ok := ctx.Value(callerKey{}).(*caller); ok {
		return c.account
	}
	if a, ok := ctx.Value(strangerKey{}).(*account); ok {
		return a
	}
	return cs.accounts.nobody
}

// after counts a request and writes the journal: one line for evidence, extends and
// refusals. daemon/journal bounds them.
func (cs *callers) after(ctx context.Context, method string, took time.Duration, refused *rpc.Error, cause error) {
	cs.counters.count(method, took, refused)
	if refused == nil && cause == nil && !cs.log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	payer, args := cs.payerOf(ctx).name, []any{"method", method, "duration", took}
	if c, ok := ctx.Value(callerKey{}).(*caller); ok {
		args = append(args, "pid", c.PID)
	}
	if refused != nil {
		args = append(args, "code", int(refused.Code))
	}
	switch {
	case cause != nil:
		cs.log.Error("call failed", append(args, "caller", payer, "error", cause)...)
	case refused != nil && refused.Code == rpc.CodeRateLimited:
		cs.log.Debug("call refused", append(args, "caller", payer, "error", refused)...)
	case refused != nil:
		cs.log.Info("call refused", append(args, "caller", payer, "error", refused)...)
	default:
		cs.log.Debug("call answered", append(args, "caller", payer)...)
	}
}

// payerName names the payer of a connection: memory and connections are shared out
// by payer.
func payerName(ctx context.Context) string {
	if c, ok := ctx.Value(callerKey{}).(*caller); ok {
		return c.payer
	}
	if a, ok := ctx.Value(strangerKey{}).(*account); ok {
		return a.name
	}
	return ""
}
