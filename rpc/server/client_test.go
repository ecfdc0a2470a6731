package server

import (
	"context"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cima-project/cima/rpc"
)

func dialDaemon(t *testing.T, d rpc.Dialer) *rpc.Client {
	t.Helper()
	c, err := d.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// At the connection limit the daemon says so; the client tries again.
func TestClientAtTheLimit(t *testing.T) {
	s := testServer()
	s.Limits = Limits{Connections: 1}
	path := start(t, s)
	w := connect(t, path)
	w.ask("Echo", "{}")
	c := dialDaemon(t, rpc.Dialer{Path: path})
	time.AfterFunc(100*time.Millisecond, func() { w.nc.Close() })
	if err := c.Call(t.Context(), "Echo", nil, nil); err != nil {
		t.Error(err)
	}
}

// A restart between two calls, and calls while the daemon is away.
func TestClientOutlivesRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	stop := startAt(t, testServer(), path)
	c := dialDaemon(t, rpc.Dialer{Path: path, Wait: true})
	var failed, answered atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for ctx.Err() == nil {
				err := c.Call(ctx, "Echo", nil, nil)
				switch {
				case ctx.Err() != nil:
				case err != nil:
					t.Error(err)
					failed.Add(1)
					return
				default:
					answered.Add(1)
				}
			}
		})
	}
	for range 3 {
		time.Sleep(50 * time.Millisecond)
		stop()
		time.Sleep(50 * time.Millisecond)
		stop = startAt(t, testServer(), path)
	}
	before := answered.Load()
	time.Sleep(100 * time.Millisecond)
	cancel()
	all.Wait()
	stop()
	if answered.Load() == before || failed.Load() != 0 {
		t.Errorf("%d answers, %d after the last restart, %d failures", answered.Load(), answered.Load()-before, failed.Load())
	}
}
