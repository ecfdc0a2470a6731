package api

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/containers"
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

// What is answered inline waits for nothing: not for a container that is being
// measured, not for the hardware; access rules don't change that.
func TestInlineNeverWaits(t *testing.T) {
	for name, rules := range map[string][]config.AccessRule{
		"no rules": nil,
		"rules":    {{Image: "*", Deny: []string{rpc.MethodGetCCEventLog}}},
	} {
		f := newFixture(t, func(c *config.Config) { c.Access = rules })
		f.api.TEE = quotes.NewTimedTEE(hung{f.machine})
		i := f.containers.Use(peer.Container{ID: "one", Name: "one"}, 1, 0)
		f.api.Containers = knownFacts{f.containers, nil} // measuring takes time
		c := &caller{Caller: &peer.Caller{}, owner: i.Owner, instance: i}
		c.setSubject()
		ctx := context.WithValue(t.Context(), callerKey{}, c)
		quick := 0
		handlers := make(map[string]server.Handler)
		for _, m := range f.api.callerMethods() {
			if !m.Inline {
				continue
			}
			handlers[m.Name] = m.Handler
			for _, params := range []string{`{}`, `{"index":0}`, `{"index":3}`} {
				err := inline(t, ctx, m.Handler, params)
				var wire *rpc.Error
				if err != nil && !errors.Is(err, errMustWait) && !(errors.As(err, &wire) && wire.Code == rpc.CodeInvalidParams) {
					t.Errorf("%s: %s %s: %v", name, m.Name, params, err)
				}
				if err == nil {
					quick++
				}
			}
		}
		if fixed := 2; rules == nil && quick != fixed || rules != nil && quick != 0 {
			t.Errorf("%s: %d answers while nothing is known", name, quick)
		}
		f.api.Containers = knownFacts{f.containers, &containers.Facts{}}
		for _, method := range []string{rpc.MethodWhoAmI, rpc.MethodGetMeasurementCount} {
			if err := inline(t, ctx, handlers[method], `{}`); err != nil {
				t.Errorf("%s: %s of a measured container: %v", name, method, err)
			}
		}
		if err := inline(t, ctx, handlers[rpc.MethodGetCCMeasurement], `{"index":3}`); err != nil {
			t.Errorf("%s: a measured container's register: %v", name, err)
		}
	}
}

// errMustWait is what an inline handler returns if it must wait.
var errMustWait = errors.New("must wait")

// inline calls a handler as rpc/server does, where it must not wait.
func inline(t *testing.T, ctx context.Context, f server.Handler, params string) error {
	t.Helper()
	var got error
	ctx, cancel := context.WithCancel(ctx)
	s := server.Server{Methods: []server.Method{{Name: "Inline", Inline: true, Handler: func(ctx context.Context, p json.RawMessage) (any, error) {
		must := server.MayWait(ctx)
		if must == nil {
			t.Error("it is not called inline")
		}
		if _, got = f(ctx, p); got != nil && got == must {
			got = errMustWait
		}
		return nil, nil
	}}}}
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { s.Serve(ctx, l) })
	defer serving.Wait()
	defer cancel()
	client, err := rpc.Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := within(t, func() error { return client.Call(t.Context(), "Inline", json.RawMessage(params), nil) }); err != nil {
		t.Fatal(err)
	}
	return got
}

func within(t *testing.T, f func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-time.After(time.Minute):
		t.Fatal("it waits")
		return nil
	}
}
