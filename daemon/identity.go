package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/peer"
	"github.com/cima-project/cima/rpc"
)

// records lets the peer room ask the launch room: what the walls keep apart.
type records struct{ store func() *launch.Store }

func (r records) Declared(ctx context.Context, cgroupPath string) (peer.Container, bool, error) {
	rec, ok, err := r.store().Declared(ctx, cgroupPath)
	if err != nil || !ok {
		return peer.Container{}, false, err
	}
	return containerOf(rec), true, nil
}

// caller is who is on a connection.
type caller struct {
	*peer.Caller
	owner    string    // as the runtime log names the container; "" on the host
	instance *instance // of the container; nil on the host
	account  *account
	payer    string // the account's name
	admin    bool

	own, ownNow subject // whom its own answers are about; with ownNow.atOnce
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
		c.instance = d.instances.use(*p.Container, p.Instance, p.CgroupOwner)
		c.owner = c.instance.owner
	}
	c.payer = c.charged()
	c.account = d.accounts.use(c.payer)
	c.setSubjects()
	release := func() {
		d.accounts.release(c.account)
		if c.instance != nil {
			d.instances.release(c.instance)
		}
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
	c := callerOf(ctx)
	if err := c.Check(ctx); err != nil {
		return refusal(err)
	}
	if wait := take(c.account.requests); wait > 0 {
		return rpc.RateLimited(wait, "more than %g requests a second: ask again in %v",
			d.config().Limits.RequestsPerSecond, wait.Round(time.Millisecond))
	}
	return nil
}

// after writes the journal: one line for evidence, extends and refusals.
func (d *Daemon) after(ctx context.Context, method string, took time.Duration, refused *rpc.Error, cause error) {
	d.counters.count(method, took, refused)
	if refused == nil && cause == nil && !d.log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	args := []any{"method", method, "duration", took}
	if c, ok := ctx.Value(callerKey{}).(*caller); ok {
		args = append(args, "caller", c.payer, "pid", c.PID)
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

// accounts are what callers may still use, by whom they are charged to.
type accounts struct {
	limits LimitsConfig

	mu    sync.Mutex
	byKey map[string]*account
}

type account struct {
	requests, quotes *rate.Limiter

	users int       // connections; under accounts.mu
	idle  time.Time // since when there are none
}

func (as *accounts) use(key string) *account {
	as.mu.Lock()
	defer as.mu.Unlock()
	a := as.byKey[key]
	if a == nil {
		as.forget()
		l := as.limits
		a = &account{
			requests: rate.NewLimiter(rate.Limit(l.RequestsPerSecond), l.RequestsBurst),
			quotes:   rate.NewLimiter(rate.Limit(l.QuotesPerMinute/60), l.QuotesBurst),
		}
		as.byKey[key] = a
	}
	a.users++
	return a
}

// forget drops accounts whose limiters have long filled up again: dropping
// one sooner would let a caller reset its rate by reconnecting.
func (as *accounts) forget() {
	l := as.limits
	refill := time.Duration((float64(l.QuotesBurst)/l.QuotesPerMinute*60 +
		float64(l.RequestsBurst)/l.RequestsPerSecond) * float64(time.Second))
	for key, a := range as.byKey {
		if a.users == 0 && time.Since(a.idle) > refill+time.Second {
			delete(as.byKey, key)
		}
	}
}

func (as *accounts) release(a *account) {
	as.mu.Lock()
	defer as.mu.Unlock()
	if a.users--; a.users == 0 {
		a.idle = time.Now()
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
