package server

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cima-project/cima/rpc"
)

// What can have no result counts against the rate too, and beyond it ends the
// connection.
func TestStraysCountAgainstTheRate(t *testing.T) {
	const within = 10
	for name, test := range map[string]struct {
		line    string
		answers int // before the end
		refuse  bool
		code    rpc.Code
	}{
		"no method": {`{"jsonrpc":"2.0","id":1,"method":"x"}`, within + maxBad, false, rpc.CodeMethodNotFound},
		"no JSON":   {"x", maxBad, false, rpc.CodeParseError},
		"refused":   {`{"jsonrpc":"2.0","id":1,"method":"Echo"}`, within + maxBad, true, rpc.CodeUnattributed},
	} {
		t.Run(name, func(t *testing.T) {
			s := testServer()
			var asked atomic.Int32
			s.Before = func(context.Context, string) error {
				if asked.Add(1) > within {
					return rpc.RateLimited(time.Minute, "later")
				}
				return nil
			}
			if test.refuse {
				s.Attach = func(context.Context, *net.UnixConn) (context.Context, func(), error) {
					return nil, nil, rpc.Unattributed("no one")
				}
			}
			w := connect(t, start(t, s))
			for i := range test.answers {
				w.send(test.line + "\n")
				want := test.code
				if i >= within {
					want = rpc.CodeRateLimited
				}
				r := w.receive()
				if r.Error == nil || r.Error.Code != want || want == rpc.CodeRateLimited && r.Error.RetryAfter() != time.Minute {
					t.Fatalf("answer %d: %+v, want %d", i, r.Error, want)
				}
			}
			w.ends()
		})
	}
}
