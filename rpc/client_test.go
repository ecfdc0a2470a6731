package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cima-project/cima/rpc/lines"
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

// Every typed method sends the request of its name, and reads the result.
func TestClientMethods(t *testing.T) {
	_, bundle := testEvidence(t)
	container := Digest{9}
	daemon := fakeDaemon{
		MethodGetDefaultAlgorithm: fake(func(NoParams) (DefaultAlgorithm, error) { return DefaultAlgorithm{12, "sha384"}, nil }),
		MethodGetMeasurementCount: fake(func(NoParams) (MeasurementCount, error) { return MeasurementCount{4}, nil }),
		MethodGetCCMeasurement: fake(func(p CCMeasurementParams) (CCMeasurement, error) {
			return CCMeasurement{Index: p.Index, AlgoID: p.AlgoID, Hash: Digest{1, 2, 3}}, nil
		}),
		MethodGetCCEventLog: fake(func(p CCEventLogParams) (CCEventLog, error) {
			return CCEventLog{Total: p.Start + p.Count, Events: []EventRecord{{Event: []byte{}, Digests: []EventDigest{{AlgoID: 12, Hash: HexBytes{0xab}}}}}}, nil
		}),
		MethodGetCCReport: fake(func(p CCReportParams) (CCReport, error) {
			return CCReport{CCReport: p.UserData}, nil
		}),
		MethodGetEvidence:     fake(func(p EvidenceParams) (json.RawMessage, error) { return json.RawMessage(bundle), nil }),
		MethodGetMeasurements: fake(func(NoParams) (Measurements, error) { return Measurements{Container: &container}, nil }),
		MethodExtendMeasurement: fake(func(p ExtendParams) (Extended, error) {
			if p.Domain != "a" || p.Operation != "b" || p.Content != "c<\u2028" {
				return Extended{}, errors.New("other parameters")
			}
			return Extended{Index: 3}, nil
		}),
		MethodWhoAmI: fake(func(NoParams) (Identity, error) { return Identity{PID: 5}, nil }),
		MethodDiscover: fake(func(NoParams) (json.RawMessage, error) {
			return json.RawMessage(`{"openrpc":"1"}`), nil
		}),
		MethodListContainers: fake(func(NoParams) (ContainerList, error) {
			return ContainerList{[]ContainerStatus{{Events: 2}}}, nil
		}),
		MethodGetStatus: fake(func(NoParams) (Status, error) { return Status{Version: "v"}, nil }),
	}
	c, ctx := dial(t, Dialer{Path: daemon.start(t)}), t.Context()
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
	r8, err := c.ExtendMeasurement(ctx, ExtendParams{"a", "b", "c<\u2028"})
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
	daemon := fakeDaemon{"Which": func(_ context.Context, raw json.RawMessage) (any, error) {
		return DecodeAdminParams(raw, new(CCMeasurementParams))
	}}
	c := dial(t, Dialer{Path: daemon.start(t)})
	for _, id := range []string{"", "0abc", `1000/"`} {
		var got string
		if err := c.Container(id).Call(t.Context(), "Which", CCMeasurementParams{}, &got); err != nil || got != id {
			t.Errorf("got %q, %v; want %q", got, err, id)
		}
	}
}

// Dial's errors say what is wrong and what may help.
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
		filepath.Join(dir, "cima", "cima.sock"): {syscall.ENOENT, "in a container: mount "},
		filepath.Join(dir, "cima.sock"):         {syscall.ENOENT, "cimactl doctor says why"},
		gone:                                    {syscall.ECONNREFUSED, "nobody listens"},
		"/" + strings.Repeat("x", 120):          {syscall.EINVAL, "107"},
	} {
		_, err := Dialer{Path: path, Patience: -1}.Dial(t.Context())
		var unreachable *UnreachableError
		if !errors.As(err, &unreachable) || !errors.Is(err, want.err) || !strings.Contains(unreachable.Hint, want.hint) || !strings.Contains(err.Error(), "; hint: ") {
			t.Errorf("%s: got %v, %+v", path, err, unreachable)
		}
	}
	t.Setenv(SocketEnv, filepath.Join(dir, "env"))
	if _, err := (Dialer{Patience: -1}).Dial(t.Context()); err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "env")) {
		t.Errorf("got %v", err)
	}
}

func TestClientWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	var ready atomic.Bool
	daemon := fakeDaemon{"Echo": func(context.Context, json.RawMessage) (any, error) {
		if !ready.Swap(true) {
			return nil, NotReady(5*time.Millisecond, "not yet")
		}
		return "done", nil
	}}
	timer := time.AfterFunc(100*time.Millisecond, func() { daemon.startAt(t, path) })
	defer timer.Stop()
	c := dial(t, Dialer{Path: path, Wait: true})
	if err := c.Call(t.Context(), "Echo", nil, nil); err != nil {
		t.Error(err)
	}
	ready.Store(false)
	var e *Error
	if err := dial(t, Dialer{Path: path, Patience: -1}).Call(t.Context(), "Echo", nil, nil); !errors.As(err, &e) || e.Code != CodeNotReady {
		t.Errorf("without patience: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := (Dialer{Path: path + "x", Wait: true}).Dial(ctx); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, syscall.ENOENT) {
		t.Errorf("got %v", err)
	}
}

func TestClientContexts(t *testing.T) {
	daemon := fakeDaemon{
		"Wait": func(ctx context.Context, _ json.RawMessage) (any, error) { <-ctx.Done(); return nil, ctx.Err() },
		"Echo": func(context.Context, json.RawMessage) (any, error) { return "done", nil },
	}
	c := dial(t, Dialer{Path: daemon.start(t)})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Call(ctx, "Wait", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if err := c.Call(t.Context(), "Echo", nil, nil); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// A result belongs to the caller, whatever the connection is used for next.
func TestResultsOutliveTheNextCall(t *testing.T) {
	for _, size := range []int{10, lines.FirstRead, 3 * lines.FirstRead} {
		calls := 0
		daemon := fakeDaemon{MethodDiscover: fake(func(NoParams) (json.RawMessage, error) {
			calls++
			return json.RawMessage(`"` + strings.Repeat(string(rune('a'+calls)), size) + `"`), nil
		})}
		c := dial(t, Dialer{Path: daemon.start(t)})
		first, err := c.Discover(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		before := string(first)
		if second, err := c.Discover(t.Context()); err != nil || len(second) != len(first) {
			t.Fatal(err)
		}
		if string(first) != before {
			t.Errorf("%d bytes: the next call has overwritten %.20q by %.20q", size, before, first)
		}
	}
}
