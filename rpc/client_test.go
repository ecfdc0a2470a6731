package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func dial(t *testing.T, d Dialer) *Client {
	t.Helper()
	c, err := d.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// Every typed method asks for what its name says, and reads what comes.
func TestClientMethods(t *testing.T) {
	e, bundle := testEvidence(t)
	container := Digest{9}
	var s Server
	s.Methods = map[string]Handler{
		MethodGetDefaultAlgorithm: Bind(func(context.Context, NoParams) (DefaultAlgorithm, error) { return DefaultAlgorithm{12, "sha384"}, nil }),
		MethodGetMeasurementCount: Bind(func(context.Context, NoParams) (MeasurementCount, error) { return MeasurementCount{4}, nil }),
		MethodGetCCMeasurement:    Bind(measurement),
		MethodGetCCEventLog: Bind(func(_ context.Context, p CCEventLogParams) (CCEventLog, error) {
			return CCEventLog{Total: p.Start + p.Count, Events: []EventRecord{{Digests: []EventDigest{{12, HexBytes{0xab}}}}}}, nil
		}),
		MethodGetCCReport: Bind(func(_ context.Context, p CCReportParams) (CCReport, error) {
			return CCReport{CCReport: p.UserData}, nil
		}),
		MethodGetEvidence:     Bind(func(_ context.Context, p EvidenceParams) (*Evidence, error) { return e, nil }),
		MethodGetMeasurements: Bind(func(context.Context, NoParams) (Measurements, error) { return Measurements{Container: &container}, nil }),
		MethodExtendMeasurement: Bind(func(_ context.Context, p ExtendParams) (Extended, error) {
			if p.Domain != "a" || p.Operation != "b" || p.Content != "c\n<\u2028" {
				return Extended{}, errors.New("other parameters")
			}
			return Extended{Index: 3}, nil
		}),
		MethodWhoAmI: Bind(func(context.Context, NoParams) (Identity, error) { return Identity{PID: 5}, nil }),
		MethodDiscover: Bind(func(context.Context, NoParams) (json.RawMessage, error) {
			return json.RawMessage(`{"openrpc":"1"}`), nil
		}),
		MethodListContainers: Bind(func(context.Context, NoParams) (ContainerList, error) {
			return ContainerList{[]ContainerStatus{{Events: 2}}}, nil
		}),
		MethodGetStatus: Bind(func(context.Context, NoParams) (Status, error) { return Status{Version: "v"}, nil }),
	}
	c, ctx := dial(t, Dialer{Path: start(t, &s)}), t.Context()
	check := func(method string, err error, good bool) {
		t.Helper()
		if err != nil || !good {
			t.Errorf("%s: %v", method, err)
		}
	}
	nonce := make([]byte, 32)
	r1, err := c.GetDefaultAlgorithm(ctx)
	check("GetDefaultAlgorithm", err, r1.AlgoID == 12)
	r2, err := c.GetMeasurementCount(ctx)
	check("GetMeasurementCount", err, r2.Count == 4)
	r3, err := c.GetCCMeasurement(ctx, CCMeasurementParams{Index: 2})
	check("GetCCMeasurement", err, r3 == CCMeasurement{2, 12, Digest{1, 2, 3}})
	r4, err := c.GetCCEventLog(ctx, CCEventLogParams{Start: 3, Count: 4})
	check("GetCCEventLog", err, r4.Total == 7 && r4.Events[0].Digests[0].Hash[0] == 0xab)
	r5, err := c.GetCCReport(ctx, CCReportParams{Nonce: nonce, UserData: []byte("u")})
	check("GetCCReport", err, string(r5.CCReport) == "u")
	r6, err := c.GetEvidence(ctx, EvidenceParams{Nonce: nonce})
	check("GetEvidence", err, string(r6) == string(bundle))
	r7, err := c.GetMeasurements(ctx)
	check("GetMeasurements", err, *r7.Container == container)
	r8, err := c.ExtendMeasurement(ctx, ExtendParams{"a", "b", "c\n<\u2028"})
	check("ExtendMeasurement", err, r8.Index == 3)
	r9, err := c.WhoAmI(ctx)
	check("WhoAmI", err, r9.PID == 5)
	r10, err := c.Discover(ctx)
	check("Discover", err, string(r10) == `{"openrpc":"1"}`)
	r11, err := c.ListContainers(ctx)
	check("ListContainers", err, r11.Containers[0].Events == 2)
	r12, err := c.GetStatus(ctx)
	check("GetStatus", err, r12.Version == "v")
	_, err = c.GetCCMeasurement(ctx, CCMeasurementParams{Index: 4})
	var wrong *Error
	check("index 4", nil, errors.As(err, &wrong) && wrong.Code == CodeInvalidParams && wrong.Data.Member == "index")
}

func TestClientContainer(t *testing.T) {
	var s Server
	s.Methods = map[string]Handler{"Which": BindAdmin(func(_ context.Context, id string, p CCMeasurementParams) (string, error) { return id, nil })}
	c := dial(t, Dialer{Path: start(t, &s)})
	for _, id := range []string{"", "0abc", `1000/"`} {
		var got string
		if err := c.Container(id).Call(t.Context(), "Which", CCMeasurementParams{}, &got); err != nil || got != id {
			t.Errorf("got %q, %v; want %q", got, err, id)
		}
	}
}

// Dial names what is wrong and what may help.
func TestClientHints(t *testing.T) {
	dir := t.TempDir()
	gone := filepath.Join(dir, "gone")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: gone, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	for path, want := range map[string]struct {
		err  error
		hint string
	}{
		filepath.Join(dir, "cima", "cima.sock"): {syscall.ENOENT, "mounted"},
		filepath.Join(dir, "cima.sock"):         {syscall.ENOENT, "systemctl start"},
		gone:                                    {syscall.ECONNREFUSED, "nobody listens"},
		"/" + strings.Repeat("x", 120):          {syscall.EINVAL, "107"},
	} {
		_, err := Dial(t.Context(), path)
		var unreachable *UnreachableError
		if !errors.As(err, &unreachable) || !errors.Is(err, want.err) || !strings.Contains(unreachable.Hint, want.hint) {
			t.Errorf("%s: got %v, %+v", path, err, unreachable)
		}
	}
	if h := hint(gone, syscall.EACCES); !strings.Contains(h, "SELinux") {
		t.Error(h)
	}
	t.Setenv(SocketEnv, filepath.Join(dir, "env"))
	if _, err := Dial(t.Context(), ""); err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "env")) {
		t.Errorf("got %v", err)
	}
}

func TestClientWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	var ready atomic.Bool
	s := testServer()
	s.Before = func(context.Context, string) error {
		if !ready.Swap(true) {
			return NotReady(5*time.Millisecond, "not yet")
		}
		return nil
	}
	timer := time.AfterFunc(100*time.Millisecond, func() { t.Cleanup(startAt(t, s, path)) })
	defer timer.Stop()
	c := dial(t, Dialer{Path: path, Wait: true})
	if err := c.Call(t.Context(), "Echo", nil, nil); err != nil {
		t.Error(err)
	}
	ready.Store(false)
	var e *Error
	if err := dial(t, Dialer{Path: path}).Call(t.Context(), "Echo", nil, nil); !errors.As(err, &e) || e.Code != CodeNotReady {
		t.Errorf("without Wait: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := (Dialer{Path: path + "x", Wait: true}).Dial(ctx); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, syscall.ENOENT) {
		t.Errorf("got %v", err)
	}
}

// A restart between two calls, and calls while the daemon is away.
func TestClientOutlivesRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	stop := startAt(t, testServer(), path)
	c := dial(t, Dialer{Path: path, Wait: true})
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

// rude is a daemon that reads a request, says what it is told to, and closes.
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

// An extend whose answer is lost is never made twice; other calls are.
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

func TestClientBadReplies(t *testing.T) {
	for reply, want := range map[string]string{
		"hello\n":                         "reply",
		`{"jsonrpc":"2.0","id":1}` + "\n": "no JSON-RPC response",
		`{"jsonrpc":"2.0","id":1,"result":1,"error":{"code":1,"message":"x"}}` + "\n":  "no JSON-RPC response",
		`{"jsonrpc":"2.0","id":2,"result":1}` + "\n":                                   "request 2",
		`{"jsonrpc":"2.0","id":1,"result":"` + strings.Repeat("x", 5000) + `"}` + "\n": "more than 5000",
		strings.Repeat("x", 6000): "more than 5000",
	} {
		path, _ := rude(t, func(int64) string { return reply })
		err := dial(t, Dialer{Path: path, MaxReply: 5000}).Call(t.Context(), "Echo", nil, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", clip([]byte(reply)), err)
		}
	}
}

func TestClientContexts(t *testing.T) {
	c := dial(t, Dialer{Path: start(t, testServer())})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Call(ctx, "Wait", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if err := c.Call(t.Context(), "Echo", nil, nil); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// At the connection limit the daemon says so; the client tries again.
func TestClientAtTheLimit(t *testing.T) {
	s := testServer()
	s.Limits = Limits{Connections: 1}
	path := start(t, s)
	w := connect(t, path)
	w.ask("Echo", "{}")
	c := dial(t, Dialer{Path: path})
	time.AfterFunc(100*time.Millisecond, func() { w.nc.Close() })
	if err := c.Call(t.Context(), "Echo", nil, nil); err != nil {
		t.Error(err)
	}
}

func TestTEEUnavailableNamesErrno(t *testing.T) {
	err := TEEUnavailable(&os.PathError{Op: "write", Path: "/secret", Err: syscall.EBUSY}, "no quote: try again")
	wire, whole := WireError(err)
	if text := string(appendError(nil, wire)); !whole || text != `{"code":-32004,"message":"no quote: try again","data":{"errno":"EBUSY"}}` {
		t.Errorf("got %s", text)
	}
	if !errors.Is(err, syscall.EBUSY) {
		t.Error("the cause is lost")
	}
}
