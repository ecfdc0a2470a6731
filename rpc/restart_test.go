package rpc

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cima-project/cima/logs/canonical"
)

// rude is a daemon that reads a request, sends the given lines, and closes.
func rude(t *testing.T, says func(n int64) string) (path string, requests *atomic.Int64) {
	path = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	requests = new(atomic.Int64)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer nc.Close()
				var b [4096]byte
				if n, _ := nc.Read(b[:]); n > 0 {
					io.WriteString(nc, says(requests.Add(1)))
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return path, requests
}

// An extend whose answer is lost is never repeated; other calls are.
func TestClientNeverRepeatsExtends(t *testing.T) {
	path, requests := rude(t, func(n int64) string { return "" })
	c := dial(t, Dialer{Path: path, Wait: true})
	_, err := c.ExtendMeasurement(t.Context(), ExtendParams{"a", "b", "c"})
	if !errors.Is(err, ErrUnknownOutcome) || requests.Load() != 1 {
		t.Errorf("%d requests, %v", requests.Load(), err)
	}
	path, requests = rude(t, func(n int64) string {
		if n < 3 {
			return ""
		}
		return `{"jsonrpc":"2.0","id":1,"result":{}}` + "\n"
	})
	c = dial(t, Dialer{Path: path})
	if _, err := c.WhoAmI(t.Context()); err != nil || requests.Load() != 3 {
		t.Errorf("%d requests, %v", requests.Load(), err)
	}
	path, requests = rude(t, func(n int64) string {
		if n < 3 {
			return `{"jsonrpc":"2.0","id":1,"error":{"code":-32007,"message":"stops"}}` + "\n"
		}
		return `{"jsonrpc":"2.0","id":1,"result":{}}` + "\n"
	})
	c = dial(t, Dialer{Path: path})
	if _, err := c.ExtendMeasurement(t.Context(), ExtendParams{"a", "b", "c"}); err != nil || requests.Load() != 3 {
		t.Errorf("%d requests, %v: a daemon that stops has not done it", requests.Load(), err)
	}
}

// An error that is not about a request (a line that is too long) is the last
// line of its connection, which the daemon closes, perhaps later: an extend
// sent on it would be lost.
func TestAnswerToNoRequestIsTheLast(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		var b [4096]byte
		for _, says := range []string{
			`{"jsonrpc":"2.0","id":null,"error":{"code":-32005,"message":"too long"}}`,
			`{"jsonrpc":"2.0","id":1,"result":{"index":3}}`,
		} {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			defer nc.Close()
			nc.Read(b[:])
			io.WriteString(nc, says+"\n")
		}
	}()
	c := dial(t, Dialer{Path: path})
	var e *Error
	if _, err := c.WhoAmI(t.Context()); !errors.As(err, &e) || e.Code != CodeTooLarge {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if made, err := c.ExtendMeasurement(ctx, ExtendParams{"a", "b", "c"}); err != nil || made.Index != 3 {
		t.Error(made, err)
	}
}

func TestClientBadReplies(t *testing.T) {
	for reply, want := range map[string]string{
		"{hello\n":                        "reply",
		"hello\n":                         "does not speak JSON-RPC",
		"\x00\x00\x06\x04":                "does not speak JSON-RPC", // HTTP/2's, and the end
		`{"jsonrpc":"2.0","id":1}` + "\n": "must have a result or an error",
		`{"jsonrpc":"2.0","id":1,"result":1,"error":{"code":1,"message":"x"}}` + "\n":  "must have a result or an error",
		`{"jsonrpc":"2.0","id":2,"result":1}` + "\n":                                   "request 2",
		`{"jsonrpc":"2.0","id":1,"result":"` + strings.Repeat("x", 5000) + `"}` + "\n": "at most 5000",
		strings.Repeat("x", 6000):                                                      "at most 5000",
	} {
		path, _ := rude(t, func(int64) string { return reply })
		err := dial(t, Dialer{Path: path, MaxReply: 5000}).Call(t.Context(), "Echo", nil, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", canonical.Clip(reply, 64), err)
		}
	}
}
