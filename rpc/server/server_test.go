package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cima-project/cima/rpc"
)

type echoed struct {
	Text string `json:"text"`
}

// testServer is a server whose handlers show what a caller can do.
func testServer() *Server {
	s := new(Server)
	s.inline("Echo", func(_ context.Context, p json.RawMessage) (any, error) { return echoed{string(p)}, nil })
	s.inline("Panic", func(context.Context, json.RawMessage) (any, error) { panic("secret") })
	s.inline("Busy", func(context.Context, json.RawMessage) (any, error) { return nil, rpc.RateLimited(time.Minute, "later") })
	s.inline("Large", func(context.Context, json.RawMessage) (any, error) { return strings.Repeat("x", 1<<20-2), nil })
	s.inline("TooLarge", func(context.Context, json.RawMessage) (any, error) { return strings.Repeat("x", 1<<20-1), nil })
	s.waiting("Leak", func(context.Context, json.RawMessage) (any, error) { return nil, errors.New("secret") })
	s.waiting("Wait", func(ctx context.Context, _ json.RawMessage) (any, error) { <-ctx.Done(); return nil, ctx.Err() })
	s.waiting("Unmarshalable", func(context.Context, json.RawMessage) (any, error) { return func() {}, nil })
	s.Methods = append(s.Methods, Define(rpc.MethodGetCCMeasurement, measurement),
		Define(rpc.MethodGetDefaultAlgorithm, func(context.Context, rpc.NoParams) (string, error) { return "ok", nil }))
	s.Methods[len(s.Methods)-2].Inline = true
	return s
}

// inline and waiting add a method to a server, or replace one.
func (s *Server) inline(name string, h Handler) {
	s.waiting(name, h)
	s.Methods[len(s.Methods)-1].Inline = true
}

func (s *Server) waiting(name string, h Handler) {
	s.Methods = append(s.Methods, Method{Name: name, Handler: h})
}

// noneInline has jrpc2 answer all calls.
func (s *Server) noneInline() {
	for i := range s.Methods {
		s.Methods[i].Inline = false
	}
}

// start serves on a socket until the test ends, and returns its path.
func start(t testing.TB, s *Server) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	stop := startAt(t, s, path)
	t.Cleanup(stop)
	return path
}

// startAt serves on path until the returned function is called.
func startAt(t testing.TB, s *Server, path string) (stop func()) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, l) }()
	return sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(time.Minute):
			t.Error("Serve did not return")
		}
	})
}

// A wire is a caller's connection that may break every rule.
type wire struct {
	t  testing.TB
	nc *net.UnixConn
	in *bufio.Reader
}

func connect(t testing.TB, path string) *wire {
	t.Helper()
	nc, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(time.Minute))
	return connectedTo(&wire{t: t, nc: nc.(*net.UnixConn)})
}

func connectedTo(w *wire) *wire {
	w.in = bufio.NewReaderSize(w.nc, 2<<20)
	return w
}

func (w *wire) send(text string) {
	w.t.Helper()
	if _, err := w.nc.Write([]byte(text)); err != nil {
		w.t.Fatalf("send: %v", err)
	}
}

type response struct {
	ID     any
	Result json.RawMessage
	Error  *rpc.Error
}

func (w *wire) receive() response {
	w.t.Helper()
	line, err := w.in.ReadSlice('\n')
	return decode(w.t, line, err)
}

func decode(t testing.TB, line []byte, err error) response {
	t.Helper()
	if err != nil {
		t.Fatalf("receive: %v", err)
	}
	var r response
	if err := json.Unmarshal(line, &r); err != nil {
		t.Fatalf("receive %q: %v", line, err)
	}
	return r
}

// ends checks that the server closes the connection.
func (w *wire) ends() {
	w.t.Helper()
	if b, err := w.in.ReadByte(); err == nil || errors.Is(err, syscall.EAGAIN) || errors.Is(err, context.DeadlineExceeded) {
		w.t.Fatalf("still open: %q, %v", b, err)
	}
}

func (w *wire) ask(method, params string) response {
	w.t.Helper()
	w.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":7,"method":%q,"params":%s}`+"\n", method, params))
	return w.receive()
}

func TestAnswers(t *testing.T) {
	t.Run("inline", func(t *testing.T) { testAnswers(t, testServer()) })
	s := testServer()
	s.noneInline()
	t.Run("by jrpc2", func(t *testing.T) { testAnswers(t, s) })
}

func testAnswers(t *testing.T, s *Server) {
	var caused atomic.Pointer[error]
	s.After = func(_ context.Context, _ string, _ time.Duration, _ *rpc.Error, cause error) { caused.Store(&cause) }
	w := connect(t, start(t, s))
	if r := w.ask("Echo", `{"a" : "<"}`); string(r.Result) != `{"text":"{\"a\" : \"<\"}"}` || r.ID != 7.0 {
		t.Errorf("Echo: %+v", r)
	}
	for range 10 {
		if r := w.ask("Large", `{}`); len(r.Result) != 1<<20 {
			t.Fatalf("Large: %d bytes, error %v", len(r.Result), r.Error)
		}
	}
	for method, want := range map[string]struct {
		code  rpc.Code
		cause string
	}{
		"Panic": {rpc.CodeInternalError, "secret"}, "Leak": {rpc.CodeInternalError, "secret"}, "Unmarshalable": {rpc.CodeInternalError, "func()"},
		"Busy": {rpc.CodeRateLimited, ""}, "TooLarge": {rpc.CodeTooLarge, ""}, "Nothing": {rpc.CodeMethodNotFound, ""},
		`Ec\u0068o`: {rpc.CodeMethodNotFound, ""},
	} {
		r := w.ask(method, `{}`)
		if r.Error == nil || r.Error.Code != want.code || strings.Contains(r.Error.Message, "secret") {
			t.Errorf("%s: %+v", method, r.Error)
		}
		// After is called before the answer is written.
		cause := *caused.Load()
		if (cause == nil) != (want.cause == "") || cause != nil && !strings.Contains(cause.Error(), want.cause) {
			t.Errorf("%s: cause %v", method, cause)
		}
	}
	if r := w.ask("Busy", `{}`); r.Error.RetryAfter() != time.Minute {
		t.Errorf("Busy: %+v", r.Error.Data)
	}
}

func TestAttach(t *testing.T) {
	type key struct{}
	var released atomic.Int32
	s := testServer()
	refuse := atomic.Bool{}
	s.Attach = func(ctx context.Context, nc *net.UnixConn) (context.Context, func(), error) {
		release := func() { released.Add(1) }
		if refuse.Load() {
			return nil, release, rpc.Unattributed("no one")
		}
		return context.WithValue(context.WithoutCancel(ctx), key{}, "me"), release, nil
	}
	s.waiting("Who", func(ctx context.Context, _ json.RawMessage) (any, error) { return ctx.Value(key{}), nil })
	path := filepath.Join(t.TempDir(), "s")
	stop := startAt(t, s, path)
	defer stop()
	w := connect(t, path)
	if r := w.ask("Who", `{}`); string(r.Result) != `"me"` {
		t.Errorf("got %+v", r)
	}
	refuse.Store(true)
	v := connect(t, path)
	for range 2 {
		if r := v.ask("Who", `{}`); r.Error == nil || r.Error.Code != rpc.CodeUnattributed {
			t.Errorf("got %+v", r)
		}
	}
	w.nc.Close()
	v.nc.Close()
	stop()
	if released.Load() != 2 {
		t.Errorf("released %d of 2", released.Load())
	}
}

func TestShutdown(t *testing.T) {
	s := testServer()
	s.Limits.Drain = 3 * time.Second
	running, finish := make(chan struct{}), make(chan struct{})
	s.waiting("Slow", func(context.Context, json.RawMessage) (any, error) { close(running); <-finish; return "done", nil })
	path := filepath.Join(t.TempDir(), "s")
	stop := startAt(t, s, path)
	slow, other := connect(t, path), connect(t, path)
	other.ask("Echo", `{}`)
	slow.send(`{"jsonrpc":"2.0","id":1,"method":"Slow"}` + "\n")
	<-running
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	for !s.draining.Load() {
		time.Sleep(time.Millisecond)
	}
	if r := other.ask("Echo", `{}`); r.Error == nil || r.Error.Code != rpc.CodeShuttingDown {
		t.Errorf("a new request: %+v", r)
	}
	close(finish)
	if r := slow.receive(); string(r.Result) != `"done"` {
		t.Errorf("a request that was read: %+v", r)
	}
	<-stopped
	slow.ends()
	other.ends()
	if _, err := net.Dial("unix", path); err == nil {
		t.Error("still listens")
	}
}

// A connection that a server closes when it stops has an answer to each line that was
// read. The kernel reports lines that were not read, by ECONNRESET.
func TestShutdownAnswersWhatWasRead(t *testing.T) {
	s := testServer()
	s.waiting("Later", func(context.Context, json.RawMessage) (any, error) { return "done", nil })
	lines := []byte(strings.Repeat(`{"jsonrpc":"2.0","id":1,"method":"Echo"}`+"\n"+`{"jsonrpc":"2.0","id":2,"method":"Later"}`+"\n", 2))
	for n := range 300 {
		s := &Server{Methods: s.Methods}
		path := filepath.Join(t.TempDir(), "s")
		stop := startAt(t, s, path)
		var callers sync.WaitGroup
		for range 4 {
			nc, err := net.Dial("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			callers.Go(func() {
				defer nc.Close()
				replies := bufio.NewReader(nc)
				for {
					if _, err := nc.Write(lines); err != nil {
						return // closed before it was read
					}
					for answered := range 4 {
						_, err := replies.ReadSlice('\n')
						switch {
						case errors.Is(err, io.EOF):
							t.Errorf("round %d: closed with %d of 4 lines unanswered", n, 4-answered)
							return
						case err != nil:
							return
						}
					}
				}
			})
		}
		time.Sleep(time.Duration(n%10) * 100 * time.Microsecond)
		stop()
		callers.Wait()
		if t.Failed() {
			return
		}
	}
}

func TestShutdownCancelsWhatIsTooSlow(t *testing.T) {
	s := testServer()
	s.Limits.Drain = 50 * time.Millisecond
	path := filepath.Join(t.TempDir(), "s")
	stop := startAt(t, s, path)
	w := connect(t, path)
	w.send(`{"jsonrpc":"2.0","id":1,"method":"Wait"}` + "\n")
	for s.Counts().Connections == 0 {
		time.Sleep(time.Millisecond)
	}
	stop()
}

// A listener that fails like accept(2) when descriptors run out.
type failing struct {
	net.Listener
	left atomic.Int32
}

func (l *failing) Accept() (net.Conn, error) {
	if l.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

func TestAcceptErrors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	inner, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l := &failing{Listener: inner}
	l.left.Store(3)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- testServer().Serve(ctx, l) }()
	if r := connect(t, path).ask("Echo", `{}`); r.Error != nil {
		t.Error(r.Error)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	inner.Close()
	if err := testServer().Serve(context.Background(), inner); err == nil {
		t.Error("a closed listener is no error")
	}
}

func dial(t *testing.T, d rpc.Dialer) *rpc.Client {
	t.Helper()
	c, err := d.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// At the limit of connections the daemon answers with an error, and the client
// tries again.
func TestClientAtTheLimit(t *testing.T) {
	s := testServer()
	s.Limits = Limits{Connections: 1}
	path := start(t, s)
	w := connect(t, path)
	w.ask("Echo", "{}")
	c := dial(t, rpc.Dialer{Path: path})
	time.AfterFunc(100*time.Millisecond, func() { w.nc.Close() })
	if err := c.Call(t.Context(), "Echo", nil, nil); err != nil {
		t.Error(err)
	}
}

// The client survives restarts between two calls, and calls while there is no
// daemon.
func TestClientOutlivesRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	stop := startAt(t, testServer(), path)
	c := dial(t, rpc.Dialer{Path: path, Wait: true})
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
	for end := time.Now().Add(time.Minute); answered.Load() == before && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	cancel()
	all.Wait()
	stop()
	if answered.Load() == before || failed.Load() != 0 {
		t.Errorf("%d answers, %d after the last restart, %d failures", answered.Load(), answered.Load()-before, failed.Load())
	}
}
