package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/peer"
	"github.com/cima-project/cima/daemon/quotes"
	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/server"
)

// hung is hardware that never answers.
type hung struct{ hw.TEE }

func (hung) Registers(ctx context.Context) (hw.Registers, error) {
	<-ctx.Done()
	return hw.Registers{}, ctx.Err()
}

// What is answered at once waits for nothing: not for a container that is being
// measured, not for hardware, not with access rules either.
func TestAtOnceNeverWaits(t *testing.T) {
	for name, rules := range map[string][]config.AccessRule{
		"no rules": nil,
		"rules":    {{Image: "*", Deny: []string{rpc.MethodGetCCEventLog}}},
	} {
		f := newFixture(t, func(c *config.Config) { c.Access = rules })
		f.daemon.tee = quotes.NewTimedTEE(hung{f.machine})
		i := f.daemon.instances.use(peer.Container{ID: "one"}, 1, 0)
		if err := i.measuring.take(t.Context()); err != nil { // and it takes its time
			t.Fatal(err)
		}
		c := &caller{Caller: &peer.Caller{}, owner: i.owner, instance: i}
		c.setSubjects()
		ctx := context.WithValue(t.Context(), callerKey{}, c)
		quick := 0
		for method, now := range f.daemon.methodsAtOnce() {
			for _, params := range []string{`{}`, `{"index":0}`, `{"index":3}`} {
				err := within(t, func() error { _, err := now(ctx, json.RawMessage(params)); return err })
				var wire *rpc.Error
				if err != nil && err != server.ErrWaits && !(errors.As(err, &wire) && wire.Code == rpc.CodeInvalidParams) {
					t.Errorf("%s: %s %s: %v", name, method, params, err)
				}
				if err == nil {
					quick++
				}
			}
		}
		if fixed := 2; rules == nil && quick != fixed || rules != nil && quick != 0 {
			t.Errorf("%s: %d answers while nothing is known", name, quick)
		}
		i.facts.Store(&facts{})
		for _, method := range []string{rpc.MethodWhoAmI, rpc.MethodGetMeasurementCount} {
			if err := within(t, func() error { _, err := f.daemon.methodsAtOnce()[method](ctx, nil); return err }); err != nil {
				t.Errorf("%s: %s of a measured container: %v", name, method, err)
			}
		}
		measured := func() error {
			_, err := f.daemon.methodsAtOnce()[rpc.MethodGetCCMeasurement](ctx, json.RawMessage(`{"index":3}`))
			return err
		}
		if err := within(t, measured); err != nil {
			t.Errorf("%s: a measured container's register: %v", name, err)
		}
		i.measuring.give()
	}
}

// A container that something is owed of waits until it is logged.
func TestAtOnceNotWhileOwed(t *testing.T) {
	w := &watchedRoot{owner: "one"}
	g := &gated{execs: &execs{watched: map[string]*watchedRoot{"one": w}}}
	if g.owes("another") {
		t.Error("of another container")
	}
	w.owes.Store(true)
	if !g.owes("one") {
		t.Error("what is owed isn't seen")
	}
	d := &Daemon{gated: g}
	i := &instance{owner: "one"}
	i.facts.Store(&facts{})
	if _, err := d.facts(t.Context(), &subject{owner: "one", instance: i, atOnce: true}); err != server.ErrWaits {
		t.Errorf("got %v", err)
	}
}

func within(t *testing.T, f func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-time.After(5 * time.Second):
		t.Fatal("it waits")
		return nil
	}
}
