package rpc

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
)

// A fakeDaemon answers a client with these functions, by method. It checks and
// limits nothing: rpc/server is the real server, and its tests use this client.
type fakeDaemon map[string]fakeHandler

type fakeHandler func(ctx context.Context, params json.RawMessage) (any, error)

// fake makes a fakeHandler from a function with typed parameters.
func fake[P, R any, PP interface {
	*P
	Params
}](f func(P) (R, error)) fakeHandler {
	return func(_ context.Context, raw json.RawMessage) (any, error) {
		var p P
		if err := DecodeParams(raw, PP(&p)); err != nil {
			return nil, err
		}
		return f(p)
	}
}

// start serves on a socket until the test ends, and returns its path.
func (d fakeDaemon) start(t testing.TB) string {
	path := filepath.Join(t.TempDir(), "s")
	d.startAt(t, path)
	return path
}

func (d fakeDaemon) startAt(t testing.TB, path string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			context.AfterFunc(ctx, func() { nc.Close() })
			all.Go(func() { d.serve(ctx, nc) })
		}
	})
	t.Cleanup(func() { cancel(); l.Close(); all.Wait() })
}

func (d fakeDaemon) serve(ctx context.Context, nc net.Conn) {
	var answering sync.WaitGroup
	defer answering.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer nc.Close()
	for in := bufio.NewScanner(nc); in.Scan(); {
		var request struct {
			ID, Params json.RawMessage
			Method     string
		}
		if json.Unmarshal(in.Bytes(), &request) != nil {
			return
		}
		answering.Go(func() {
			result, err := d[request.Method](ctx, request.Params)
			member := "result"
			if err != nil {
				member = "error"
				result, _ = WireError(err)
			}
			text, ready := result.(json.RawMessage) // sent as it is
			if !ready {
				text, _ = json.Marshal(result)
			}
			fmt.Fprintf(nc, `{"jsonrpc":"2.0","id":%s,"%s":%s}`+"\n", request.ID, member, text) // one write
		})
	}
}
