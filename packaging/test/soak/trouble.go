package main

import (
	"context"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/cima-project/cima/hw/sim"
)

func pause(ctx context.Context, rnd *rand.Rand, from, to time.Duration) bool {
	select {
	case <-time.After(from + time.Duration(rnd.Int64N(int64(to-from)))):
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// breakHardware lets registers and quotes fail now and then, as the kernel's
// interfaces document it, or hang for longer than a caller waits.
func (b *boot) breakHardware(ctx context.Context, rnd *rand.Rand) {
	few := func() int { return 1 + rnd.IntN(3) }
	for pause(ctx, rnd, 300*time.Millisecond, 2*time.Second) {
		var f sim.Fault
		lasts := time.Duration(0)
		name := ""
		switch rnd.IntN(9) {
		case 0:
			name, f = "extend fails before it is done", sim.Fault{Op: sim.OpExtend, Errno: syscall.EBUSY, Times: few()}
		case 1:
			name, f = "extend fails after it is done", sim.Fault{Op: sim.OpExtend, Errno: syscall.EINTR, After: true, Times: few()}
		case 2:
			name, f = "register can't be read", sim.Fault{Op: sim.OpRegisters, Errno: syscall.EIO, Times: few()}
		case 3:
			name, f = "quote fails", sim.Fault{Op: sim.OpQuote, Errno: syscall.ETIMEDOUT, Times: few()}
		case 4:
			name, f = "quote is empty", sim.Fault{Op: sim.OpQuote, Empty: true, Times: few()}
		case 5:
			name, f = "extend is slow", sim.Fault{Op: sim.OpExtend, Delay: 300 * time.Millisecond, Times: few()}
		case 6:
			name, f, lasts = "extend hangs", sim.Fault{Op: sim.OpExtend, Hang: true, After: rnd.IntN(2) == 0, Times: 1}, 3*time.Second
		case 7:
			name, f, lasts = "reading of registers hangs", sim.Fault{Op: sim.OpRegisters, Hang: true, Times: few()}, 3*time.Second
		case 8:
			name, f, lasts = "quote hangs", sim.Fault{Op: sim.OpQuote, Hang: true, Times: 1}, 3*time.Second
		}
		if err := b.td.Inject(ctx, f); err != nil && ctx.Err() == nil {
			b.tally.violate("the simulated TD takes no fault: %v", err)
			return
		}
		b.tally.count("hardware: " + name)
		if lasts > 0 {
			pause(ctx, rnd, lasts/4, lasts)
			b.td.Inject(context.WithoutCancel(ctx)) // calls that hang go on
		}
	}
}

// breakEngine lets the engine restart, hang, and answer nonsense.
func (b *boot) breakEngine(ctx context.Context, rnd *rand.Rand) {
	for pause(ctx, rnd, 2*time.Second, 6*time.Second) {
		switch rnd.IntN(3) {
		case 0:
			b.tally.count("engine: restarts")
			b.engine.vanish()
			pause(ctx, rnd, 100*time.Millisecond, 3*time.Second)
			if err := b.engine.appear(); err != nil {
				b.tally.violate("the engine does not come back: %v", err)
				return
			}
		case 1:
			b.tally.count("engine: slow")
			b.engine.slow.Store(int64(time.Second))
			pause(ctx, rnd, 100*time.Millisecond, 2*time.Second)
			b.engine.slow.Store(0)
		case 2:
			b.tally.count("engine: out of order")
			b.engine.broken.Store(true)
			pause(ctx, rnd, 100*time.Millisecond, 4*time.Second)
			b.engine.broken.Store(false)
		}
	}
}

// vexDaemon disturbs the daemon and leaves it running: it stops it for a while,
// and has it read its configuration again.
func (b *boot) vexDaemon(ctx context.Context, rnd *rand.Rand) {
	m := b.manager
	for n := 1; pause(ctx, rnd, 2*time.Second, 8*time.Second); n++ {
		switch rnd.IntN(3) {
		case 0:
			b.tally.count("daemon: stopped for a while")
			m.signal(syscall.SIGSTOP)
			pause(ctx, rnd, 100*time.Millisecond, 2*time.Second)
			m.signal(syscall.SIGCONT)
			continue
		case 1:
			b.tally.count("daemon: reloaded")
			if err := m.configure(n); err != nil {
				b.tally.violate("configuration: %v", err)
			}
			m.signal(syscall.SIGHUP)
		case 2:
			b.tally.count("daemon: reloaded, wrong configuration")
			if err := m.configure(-1); err != nil {
				b.tally.violate("configuration: %v", err)
			}
			m.signal(syscall.SIGHUP)
			pause(ctx, rnd, 100*time.Millisecond, 300*time.Millisecond)
			m.configure(n)
		}
	}
}

// breakDaemon kills, restarts and upgrades the daemon.
func (b *boot) breakDaemon(ctx context.Context, rnd *rand.Rand) {
	for pause(ctx, rnd, time.Second, 6*time.Second) {
		m := b.manager
		switch rnd.IntN(4) {
		case 0:
			b.tally.count("restarts")
			m.end(syscall.SIGTERM)
		case 1:
			m.upgrades++
			if err := m.install(b.bin+"/cimad-sim", m.upgrades); err != nil {
				b.tally.violate("upgrade: %v", err)
				return
			}
			b.tally.count("upgrades")
			m.end(syscall.SIGTERM)
		default:
			b.tally.count("kills")
			m.end(syscall.SIGKILL)
		}
		pause(ctx, rnd, 0, 200*time.Millisecond)
		if err := m.start(); err != nil {
			b.tally.violate("the daemon does not start: %v", err)
			return
		}
	}
}
