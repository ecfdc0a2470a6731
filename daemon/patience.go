package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/rpc"
)

// Hardware may hang: a system call that doesn't come back can't be called off.
// What waits for it on somebody's behalf gives up at a deadline, and what is
// under way goes on in few goroutines.

// registerReads is how many readings of the registers may hang at once.
const registerReads = 4

// patient is a TEE whose registers are waited for no longer than a context
// lasts, whatever the TEE makes of contexts. Quotes are the queue's affair, and
// extends the ledger's; they are counted.
type patient struct {
	TEE
	slots    chan struct{}
	counters *counters
}

func newPatient(tee TEE, c *counters) *patient {
	return &patient{tee, make(chan struct{}, registerReads), c}
}

func (p *patient) Quote(ctx context.Context, data hw.ReportData) ([]byte, error) {
	begin := time.Now()
	quote, err := p.TEE.Quote(ctx, data)
	did(&p.counters.quoting, &p.counters.quotes, &p.counters.quotesFailed, begin, err)
	return quote, err
}

func (p *patient) Extend(ctx context.Context, digest hw.Digest) error {
	begin := time.Now()
	err := p.TEE.Extend(ctx, digest)
	did(&p.counters.extending, &p.counters.extends, &p.counters.extendsFailed, begin, err)
	return err
}

func (p *patient) Registers(ctx context.Context) (hw.Registers, error) {
	type answer struct {
		hw.Registers
		err error
	}
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return hw.Registers{}, noAnswer(ctx.Err())
	}
	got := make(chan answer, 1)
	go func() {
		defer func() { <-p.slots }()
		r, err := p.TEE.Registers(ctx)
		got <- answer{r, err}
	}()
	select {
	case a := <-got:
		return a.Registers, a.err
	case <-ctx.Done():
		return hw.Registers{}, noAnswer(ctx.Err())
	}
}

func noAnswer(why error) error {
	return &hw.Error{Op: hw.OpRegisters, Err: fmt.Errorf("gave up waiting: %w", why), Advice: "the hardware does not answer, or is slow: ask again later"}
}

// inTime bounds what waits for the register, or for what waits for it.
func (d *Daemon) inTime(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, time.Duration(d.config().Limits.RegisterTimeout))
}

// registers reads the registers for a caller.
func (d *Daemon) registers(ctx context.Context) (hw.Registers, error) {
	ctx, cancel := d.inTime(ctx)
	defer cancel()
	return d.tee.Registers(ctx)
}

// lock is a mutex that can be waited for in time.
type lock chan struct{}

func newLock() lock { return make(lock, 1) }

func (l lock) take(ctx context.Context) error {
	select {
	case l <- struct{}{}:
		return nil
	default:
	}
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l lock) try() bool {
	select {
	case l <- struct{}{}:
		return true
	default:
		return false
	}
}

func (l lock) give() { <-l }

// enter takes an instance's lock, or says that it is being measured. Before the
// daemon's start is logged nobody knows whether the log's last record happened.
func (d *Daemon) enter(ctx context.Context, i *instance) error {
	if err := d.ledger.Ready(ctx); err != nil {
		return err
	}
	ctx, cancel := d.inTime(ctx)
	defer cancel()
	if err := i.measuring.take(ctx); err != nil {
		return rpc.NotReady(time.Second, "the container is still being measured, and the register does not answer: ask again").Because(err)
	}
	return nil
}
