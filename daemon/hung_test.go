package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/daemontest"
	"github.com/cima-project/cima/daemon/gate"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// impatient stops waiting for a register after 200 ms.
func impatient(c *config.Config) { c.Limits.RegisterTimeout = config.Duration(200 * time.Millisecond) }

func (f *fixture) inject(faults ...sim.Fault) {
	f.t.Helper()
	if err := f.machine.Inject(faults...); err != nil {
		f.t.Fatal(err)
	}
}

// deaf is hardware that ignores contexts, as a system call does.
type deaf struct{ hw.TEE }

func (d deaf) Registers(context.Context) (hw.Registers, error) {
	return d.TEE.Registers(context.Background())
}

// Registers that can't be read delay no other call, however many callers wait
// for them.
func TestHungReadings(t *testing.T) {
	f := newFixture(t, impatient)
	f.daemon.tee.TEE = deaf{f.machine}
	f.inject(sim.Fault{Op: sim.OpRegisters, Hang: true})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			var m rpc.CCMeasurement
			err := f.client().Call(t.Context(), rpc.MethodGetCCMeasurement, rpc.CCMeasurementParams{Index: 1}, &m)
			if e := wantCode(t, err, rpc.CodeTEEUnavailable); !strings.Contains(e.Message, "gave up waiting") {
				t.Errorf("%v", e)
			}
		})
	}
	wg.Wait()
	f.inject()
	var m rpc.Measurements
	if err := f.client().Call(t.Context(), rpc.MethodGetMeasurements, rpc.NoParams{}, &m); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// No call is answered, and no event logged, before the daemon's start is in the
// log: the daemon waits for a register that hangs or fails then.
func TestStartIsFirst(t *testing.T) {
	for name, fault := range map[string]sim.Fault{
		"hangs before": {Op: sim.OpExtend, Hang: true},
		"hangs after":  {Op: sim.OpExtend, Hang: true, After: true, Times: 1},
		"fails":        {Op: sim.OpExtend, Errno: syscall.EIO},
		"fails once":   {Op: sim.OpExtend, Errno: syscall.EIO, Skip: 1, Times: 1},
		"unreadable":   {Op: sim.OpRegisters, Errno: syscall.EIO},
		"not read":     {Op: sim.OpRegisters, Hang: true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, impatient)
			f.stop()
			f.inject(fault)
			f.start()
			if name != "fails once" {
				_, err := f.evidence()
				wantCode(t, err, rpc.CodeTEEUnavailable)
				_, err = f.daemon.ledger.Append(t.Context(), ledger.Event{Operation: logs.OpMissed, Measured: logs.PowerBody{Classes: []string{"x"}}})
				if _, ok := err.(*hw.Error); !ok {
					t.Errorf("append: %v; want an error of the hardware", err)
				}
			}
			f.inject()
			daemontest.Eventually(t, "the start is logged", func() bool { return f.begun() })
			bundle, err := f.evidence()
			if err != nil {
				t.Fatal(err)
			}
			f.wantAuthentic(bundle)
			events := f.events()
			var operations []string
			for _, e := range events {
				operations = append(operations, e.Operation)
			}
			if got := strings.Join(operations, " "); got != "start policy seal start policy seal" {
				t.Errorf("logged: %s", got)
			}
		})
	}
}

// A start that can never be logged ends the daemon: it would give no evidence.
func TestStartThatCanNotBeLogged(t *testing.T) {
	f := newFixture(t)
	f.stop()
	f.config.Limits.RequestsPerSecond = math.Inf(1) // JSON can't write this number
	d, err := New(t.Context(), Options{TEE: f.machine, Config: f.config, LogDir: dirsUnder(f.dir).log, Records: f.records, Log: slog.New(slog.DiscardHandler)})
	if err == nil {
		d.Close()
		t.Error("the daemon started")
	}
}

// The same for a start that a slow register delays until the daemon serves.
func TestServeEndsWithAStartThatCanNotBeLogged(t *testing.T) {
	f := newFixture(t, impatient)
	f.stop()
	f.config.Limits.RequestsPerSecond = math.Inf(1)
	f.inject(sim.Fault{Op: sim.OpExtend, Hang: true})
	d, err := New(t.Context(), Options{TEE: f.machine, Config: f.config, LogDir: dirsUnder(f.dir).log, Records: f.records, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal("a register that hangs ended the daemon:", err)
	}
	defer d.Close()
	sockets, err := inherited{}.complete(dirsUnder(f.dir))
	if err != nil {
		t.Fatal(err)
	}
	f.inject()
	if err := d.Serve(t.Context(), sockets); err == nil {
		t.Error("the daemon serves, although it can never give evidence")
	}
}

// The daemon stops while its register hangs.
func TestStopWhileHung(t *testing.T) {
	f := newFixture(t, impatient)
	f.inject(sim.Fault{Op: sim.OpExtend, Hang: true})
	_, err := f.daemon.ledger.Append(t.Context(), ledger.Event{Operation: logs.OpMissed, Measured: logs.PowerBody{Classes: []string{"x"}}})
	if _, ok := err.(*hw.Error); !ok {
		t.Errorf("%v", err)
	}
	f.stop()
	f.inject()
	daemontest.Eventually(t, "the log is released", func() bool {
		l, err := ledger.Open(t.Context(), ledger.Options{Dir: dirsUnder(f.dir).log, BootID: f.daemon.bootID, Anchor: logs.AnchorRTMR3, Register: f.machine})
		if err == nil {
			l.Close()
		}
		return err == nil
	})
}

// Execs that were missed while the register failed, or hung, are logged once
// the register works.
func TestMissedIsToldOnceTheRegisterWorks(t *testing.T) {
	for name, fault := range map[string]sim.Fault{
		"fails": {Op: sim.OpExtend, Errno: syscall.EIO},
		"hangs": {Op: sim.OpExtend, Hang: true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, impatient)
			f.inject(fault)
			done := make(chan struct{})
			go func() {
				defer close(done)
				f.daemon.ledger.Missed(context.Background(), logs.MissedLaunch, gate.ErrOverflow.Error())
			}()
			missed := func() (n int) {
				events := f.events()
				for _, e := range events {
					if e.Operation == logs.OpMissed {
						n++
					}
				}
				return n
			}
			time.Sleep(300 * time.Millisecond)
			if missed() != 0 {
				t.Fatal("the fault has no effect")
			}
			f.inject()
			<-done
			daemontest.Eventually(t, "the gap is logged", func() bool { return missed() == 1 })
		})
	}
}

// Hardware that hangs doesn't make the watchdog kill the daemon; a deadlock
// does.
func TestWatchdogWhileHung(t *testing.T) {
	f := newFixture(t, impatient)
	f.stop()
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: f.dir + "/notify", Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { manager.Close() })
	t.Setenv("NOTIFY_SOCKET", f.dir+"/notify")
	t.Setenv("WATCHDOG_USEC", "300000")
	t.Setenv("WATCHDOG_PID", fmt.Sprint(os.Getpid()))
	f.start()
	beats := func(most int, d time.Duration) (n int) { // within d
		manager.SetReadDeadline(time.Now().Add(d))
		for b := make([]byte, 4096); n < most; {
			got, err := manager.Read(b)
			if err != nil {
				return n
			}
			if strings.Contains(string(b[:got]), "WATCHDOG=1") {
				n++
			}
		}
		return n
	}
	f.inject(sim.Fault{Op: sim.OpRegisters, Hang: true})
	if n := beats(5, time.Minute); n < 5 {
		t.Errorf("%d beats while the register hangs", n)
	}
	f.inject()
	f.stop()
	beats(100, 10*time.Millisecond) // beats that were sent before
	ctx, cancel := context.WithCancel(t.Context())
	taken := make(chan struct{}) // a lock that is never released
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		f.daemon.watchdog(ctx, func() { <-taken })
	}()
	if n := beats(1, time.Second); n != 0 {
		t.Errorf("%d beats while a lock is held for ever", n)
	}
	close(taken)
	if n := beats(1, time.Minute); n == 0 {
		t.Error("no beat after the lock was released")
	}
	cancel()
	<-stopped
}

// begun reports whether the daemon's start is logged, or can't be.
func (f *fixture) begun() bool {
	select {
	case <-f.daemon.begun:
		return true
	default:
		return false
	}
}
