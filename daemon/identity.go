package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/peer"
	"github.com/cima-project/cima/rpc"
)

// records lets the peer room ask the launch room: what the walls keep apart.
type records struct{ store *launch.Store }

func (r records) Declared(ctx context.Context, cgroupPath string) (peer.Container, bool, error) {
	rec, ok, err := r.store.Declared(ctx, cgroupPath)
	if err != nil || !ok {
		return peer.Container{}, false, err
	}
	return peer.Container{
		ID: rec.ID, Runtime: rec.Runtime, UID: rec.UID, CgroupPath: rec.CgroupPath,
		InitPID: rec.InitPID, InitStart: rec.InitStart, HostPID: rec.HostPID,
	}, true, nil
}

// caller is who is on a connection.
type caller struct {
	*peer.Caller
	owner    string    // as the runtime log names the container; "" on the host
	instance *instance // of the container; nil on the host
	account  *account
	admin    bool
}

// ownerName is how events and claims name a container: its id, with the uid
// before it where records or cgroups are a user's, so that a user's container
// can't pass for root's.
func ownerName(c *peer.Caller) string {
	uid := c.Container.UID
	if uid == 0 {
		uid = c.CgroupOwner
	}
	if uid == 0 {
		return c.Container.ID
	}
	return fmt.Sprintf("%d/%s", uid, c.Container.ID)
}

type callerKey struct{}

// callerOf returns the caller that attach put into the context.
func callerOf(ctx context.Context) *caller { return ctx.Value(callerKey{}).(*caller) }

// attach names the caller of a new connection, once.
func (d *Daemon) attach(ctx context.Context, conn *net.UnixConn) (context.Context, func(), error) {
	p, err := d.peers.Identify(ctx, conn)
	if err != nil {
		d.log.Info("caller refused", "error", err)
		return nil, nil, refusal(err)
	}
	c := &caller{Caller: p}
	if p.Container != nil {
		c.owner = ownerName(p)
		c.instance = d.callers.instance(c.owner, fmt.Sprint(p.Instance))
	}
	c.account = d.callers.account(c.key())
	release := func() {
		d.callers.release(c)
		p.Close()
	}
	// What is attached outlives the identifying, whose deadline ctx has.
	return context.WithValue(context.WithoutCancel(ctx), callerKey{}, c), release, nil
}

// attachAdmin takes root on the host only: the directory keeps others away,
// and this says so again.
func (d *Daemon) attachAdmin(ctx context.Context, conn *net.UnixConn) (context.Context, func(), error) {
	ctx, release, err := d.attach(ctx, conn)
	if err != nil {
		return nil, nil, err
	}
	c := callerOf(ctx)
	if c.Container != nil || c.UID != 0 && c.UID != ownUID() {
		release()
		return nil, nil, rpc.Denied("the admin socket answers root on the host only")
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

// key is whom the caller's use is charged to (rule 8): the container, or the
// owning uid where its cgroup chain isn't root's, or the uid on the host.
func (c *caller) key() string {
	switch {
	case c.Container == nil:
		return fmt.Sprintf("uid %d", c.UID)
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
	c := callerOf(ctx)
	if err := c.Check(ctx); err != nil {
		return refusal(err)
	}
	if wait := take(c.account.requests); wait > 0 {
		return rpc.RateLimited(wait, "more than %g requests a second: ask again in %v",
			d.opts.Config.Limits.RequestsPerSecond, wait.Round(time.Millisecond))
	}
	return nil
}

// after writes the journal: one line for evidence, extends and refusals.
func (d *Daemon) after(ctx context.Context, method string, took time.Duration, refused *rpc.Error, cause error) {
	args := []any{"method", method, "duration", took}
	if c, ok := ctx.Value(callerKey{}).(*caller); ok {
		args = append(args, "caller", c.key(), "pid", c.PID)
	}
	switch {
	case cause != nil:
		d.log.Error("call failed", append(args, "code", int(refused.Code), "error", cause)...)
	case refused != nil && refused.Code == rpc.CodeRateLimited:
		// A flood must not become a flood of lines.
		d.log.Debug("call refused", append(args, "code", int(refused.Code), "error", refused)...)
	case refused != nil:
		d.log.Info("call refused", append(args, "code", int(refused.Code), "error", refused)...)
	default:
		d.log.Debug("call answered", args...)
	}
}

// callers are the accounts and instances of those that are connected.
type callers struct {
	limits LimitsConfig

	mu        sync.Mutex
	accounts  map[string]*account
	instances map[string]*instance
}

// account is what one caller may still use.
type account struct {
	requests, quotes *rate.Limiter

	key   string
	users int       // connections
	idle  time.Time // since when there are none
}

func newCallers(l LimitsConfig) *callers {
	return &callers{limits: l, accounts: make(map[string]*account), instances: make(map[string]*instance)}
}

func (cs *callers) account(key string) *account {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	a := cs.accounts[key]
	if a == nil {
		cs.forget()
		a = &account{
			key:      key,
			requests: rate.NewLimiter(rate.Limit(cs.limits.RequestsPerSecond), cs.limits.RequestsBurst),
			quotes:   rate.NewLimiter(rate.Limit(cs.limits.QuotesPerMinute/60), cs.limits.QuotesBurst),
		}
		cs.accounts[key] = a
	}
	a.users++
	return a
}

// forget drops accounts whose limiters have long filled up again: dropping
// one sooner would let a caller reset its rate by reconnecting.
func (cs *callers) forget() {
	refill := time.Duration(float64(cs.limits.QuotesBurst)/cs.limits.QuotesPerMinute*60+
		float64(cs.limits.RequestsBurst)/cs.limits.RequestsPerSecond) * time.Second
	for key, a := range cs.accounts {
		if a.users == 0 && time.Since(a.idle) > refill+time.Second {
			delete(cs.accounts, key)
		}
	}
}

func (cs *callers) instance(owner, id string) *instance {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	key := owner + " " + id
	i := cs.instances[key]
	if i == nil {
		i = &instance{key: key, owner: owner, id: id}
		cs.instances[key] = i
	}
	i.users++
	return i
}

func (cs *callers) release(c *caller) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if c.account.users--; c.account.users == 0 {
		c.account.idle = time.Now()
	}
	if i := c.instance; i != nil {
		// What it knew is in the runtime log, if somebody comes again.
		if i.users--; i.users == 0 && i.settled() {
			delete(cs.instances, i.key)
		}
	}
}

// take uses up one of a limiter's tokens, or says how long to wait for it.
func take(l *rate.Limiter) time.Duration {
	r := l.Reserve()
	wait := r.Delay()
	if wait > 0 {
		r.Cancel()
	}
	return wait
}
