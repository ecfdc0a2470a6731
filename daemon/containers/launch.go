package containers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cima-project/cima/daemon/abandon"
	"github.com/cima-project/cima/daemon/engines"
	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/daemon/power"
	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// maxLaunch bounds the bytes of a launch in an event. A larger launch is logged as
// its digest.
const maxLaunch = 64 << 10

// errUnlogged says that a launch was measured, and that the log has no space for it: the
// container has used up its share, or the log is full. The container gets no evidence. It
// is no missed start: its power was announced, and a missed start stands in the way of
// everybody's verdict.
var errUnlogged = errors.New("the launch is not in the log")

// imageRetry is how long a caller is asked to wait for the engine.
const imageRetry = 250 * time.Millisecond

// logLaunch logs the launch of an instance that runs. The instance's lock is held.
func (m *Manager) logLaunch(ctx context.Context, i *Instance, rec records.Record, checkSame func(context.Context) error) error {
	// The record was read after the container was named: is it still its own?
	if err := checkSame(ctx); err != nil {
		return refusal(err)
	}
	if deferred, err := m.logDeferred(ctx, i.Owner, rec); deferred {
		return err
	}
	l, err := m.measure(ctx, rec)
	if err != nil {
		return fmt.Errorf("measure container %.12s: %w", rec.Name, err)
	}
	if err := checkSame(ctx); err != nil {
		return refusal(err)
	}
	l.CgroupOwner = i.CgroupOwner
	return m.appendLaunch(ctx, i.Owner, rec.InstanceID(i.inode), rec, l)
}

// measure measures a launch. It is abandoned where a file of the container's hangs.
func (m *Manager) measure(ctx context.Context, rec records.Record) (launch.Launch, error) {
	return abandon.Do(ctx, &m.calls, rec.Name, func() (launch.Launch, error) { return m.Records().Measure(ctx, rec) })
}

func (m *Manager) appendLaunch(ctx context.Context, owner, instance string, rec records.Record, l launch.Launch) error {
	l, err := launch.Condense(l, maxLaunch)
	if err != nil {
		return err
	}
	// Power comes before the launch, so that no evidence of the container lacks it.
	if err := m.logPower(ctx, owner, rec); err != nil {
		return err
	}
	e := ledger.Event{Operation: logs.OpLaunch, Owner: owner, Instance: instance, Measured: l}
	if owner != rec.Name {
		e.Cgroup = rec.CgroupPath // a user's record isn't listed
	}
	_, err = m.Ledger.Append(ctx, e)
	switch {
	case errors.Is(err, ledger.ErrFull):
		return fmt.Errorf("%w: %w", errUnlogged, err)
	case err == nil:
		m.Log.Info("container measured", "container", owner, "runtime", rec.Runtime, "instance", instance)
	}
	return err
}

// logPower announces to all by which means a container could act as root of the
// guest. The event names no container, so equal events are logged once.
func (m *Manager) logPower(ctx context.Context, owner string, rec records.Record) error {
	classes, err := m.Records().Power(ctx, rec)
	if err != nil {
		return fmt.Errorf("power of container %.12s: %w", rec.Name, err)
	}
	return m.announce(ctx, owner, classes)
}

// announce logs classes of power that a container has.
func (m *Manager) announce(ctx context.Context, owner string, classes []string) error {
	if len(classes) == 0 {
		return nil
	}
	_, err := m.Ledger.Append(ctx, ledger.Event{Operation: logs.OpPower, Measured: logs.PowerBody{Classes: classes}, Charge: owner, Once: true})
	if err == nil {
		m.Log.Warn("a container can act as root of the guest", "container", owner, "hint", hintFor(classes), "power", fmt.Sprint(classes))
	}
	return err
}

// hintFor says what an administrator can do about classes of power, now and after the next
// boot: the event stays in the log.
func hintFor(classes []string) string {
	const until = "; the log says so until the next boot, and policies that don't allow it refuse until then"
	for _, class := range classes {
		switch kind, of, _ := strings.Cut(class, ":"); {
		case of == "/run" || strings.HasPrefix(of, "/run/cima"):
			return "if it is for CIMA, mount the directory, and read-only: -v /run/cima:/run/cima:ro" + until
		case slices.Contains([]string{"host-read", "host-write", "data-with-sockets", "data-unseen"}, kind):
			return "mount a volume, or a directory that holds data alone and that [launch] data declares (cimad.toml(5))" + until
		case class == power.UnseenStart:
			return "start containers after cimad, and while the gate stands" + until
		}
	}
	return "start it without what it does not need, or have relying parties allow the class (cimad(8), Usual lines)" + until
}

func (m *Manager) logImage(ctx context.Context, i *Instance, rec records.Record, instance string) error {
	img, err := m.Images.Image(ctx, rec)
	deadline := time.Duration(m.Config().Launch.ImageDeadline)
	switch {
	case err == nil:
	case errors.Is(err, engines.ErrNoEngine):
		img = launch.Image{Absent: "no engine to ask"}
	case time.Since(i.first) < deadline:
		return rpc.NotReady(imageRetry, "the engine has not reported the image yet: ask again").Because(err)
	default:
		m.Log.Warn("image not measured", "container", i.Owner, "error", err)
		img = launch.Image{Absent: "the engine did not answer"}
	}
	_, err = m.Ledger.Append(ctx, ledger.Event{Operation: logs.OpImage, Owner: i.Owner, Instance: instance, Measured: img})
	return err
}
