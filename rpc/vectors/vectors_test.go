package vectors

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"sort"
	"strings"
	"testing"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/rpc"
)

func load(t *testing.T) ([]Exchange, []Bundle) {
	t.Helper()
	exchanges, bundles, err := Load(".")
	if err != nil {
		t.Fatal(err)
	}
	if len(exchanges) < 30 || len(bundles) < 12 {
		t.Fatalf("only %d exchanges and %d bundles", len(exchanges), len(bundles))
	}
	return exchanges, bundles
}

// The Go client sends the recorded requests, and loses nothing of the replies.
func TestClientReadsExchanges(t *testing.T) {
	exchanges, _ := load(t)
	for _, x := range exchanges {
		if x.Method == "" {
			continue
		}
		t.Run(x.Name, func(t *testing.T) {
			path, asked := scripted(t, x.Reply)
			c, err := rpc.Dial(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			got, err := call(t.Context(), c, x)
			if line := <-asked; line != x.Request {
				t.Errorf("asked %s\nrecorded %s", line, x.Request)
			}
			want, failure := answer(t, x.Reply)
			var e *rpc.Error
			switch {
			case errors.As(err, &e):
				if text, _ := json.Marshal(e); !sameJSON(t, text, failure) {
					t.Errorf("error %s, recorded %s", text, failure)
				}
			case err != nil:
				t.Error(err)
			default:
				if text, err := json.Marshal(got); err != nil || !sameJSON(t, text, want) {
					t.Errorf("%v: read %s\nrecorded %s", err, text, want)
				}
			}
		})
	}
}

// scripted is a daemon that gives one reply.
func scripted(t *testing.T, reply string) (path string, asked <-chan string) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "cima-v")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path = filepath.Join(dir, "cima.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	lines := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		line, _ := bufio.NewReader(c).ReadString('\n')
		lines <- strings.TrimSuffix(line, "\n")
		c.Write([]byte(reply + "\n"))
	}()
	return path, lines
}

// call makes the call of an exchange with the client's typed method.
func call(ctx context.Context, c *rpc.Client, x Exchange) (any, error) {
	switch x.Method {
	case rpc.MethodGetDefaultAlgorithm:
		return c.GetDefaultAlgorithm(ctx)
	case rpc.MethodGetMeasurementCount:
		return c.GetMeasurementCount(ctx)
	case rpc.MethodGetCCMeasurement:
		return with(ctx, x, c.GetCCMeasurement)
	case rpc.MethodGetCCEventLog:
		return with(ctx, x, c.GetCCEventLog)
	case rpc.MethodGetCCReport:
		return with(ctx, x, c.GetCCReport)
	case rpc.MethodGetEvidence:
		return with(ctx, x, c.GetEvidence)
	case rpc.MethodGetMeasurements:
		return c.GetMeasurements(ctx)
	case rpc.MethodExtendMeasurement:
		return with(ctx, x, c.ExtendMeasurement)
	case rpc.MethodWhoAmI:
		return c.WhoAmI(ctx)
	}
	return nil, errors.New("no client has the method " + x.Method)
}

func with[P, R any](ctx context.Context, x Exchange, ask func(context.Context, P) (R, error)) (R, error) {
	var p P
	if err := json.Unmarshal(x.Params, &p); err != nil {
		var none R
		return none, err
	}
	return ask(ctx, p)
}

func answer(t *testing.T, reply string) (result, failure json.RawMessage) {
	t.Helper()
	var r struct{ Result, Error json.RawMessage }
	if err := json.Unmarshal([]byte(reply), &r); err != nil {
		t.Fatal(err)
	}
	return r.Result, r.Error
}

func sameJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	return reflect.DeepEqual(parsed(t, a), parsed(t, b))
}

func parsed(t *testing.T, text []byte) (v any) {
	t.Helper()
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("%v in %.100s", err, text)
	}
	return v
}

// The verifier and this package's own replay find what the vectors record.
func TestBundles(t *testing.T) {
	_, bundles := load(t)
	root, err := os.ReadFile("bundles/root.pem")
	if err != nil {
		t.Fatal(err)
	}
	roots, err := dcap.ParseRoots(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range bundles {
		t.Run(b.File, func(t *testing.T) {
			text, err := os.ReadFile(b.File)
			if err != nil {
				t.Fatal(err)
			}
			nonce, err := hex.DecodeString(b.Nonce)
			if err != nil {
				t.Fatal(err)
			}
			r, err := verify.Appraise(t.Context(), text, verify.Options{Nonce: nonce, TrustRoots: roots})
			if err != nil {
				t.Fatal(err)
			}
			// Authentic bundles are not trusted, because no reference value
			// vouches for what was booted.
			want := map[string]verify.Verdict{Agrees: verify.NotTrusted, Differs: verify.NotAuthentic,
				Signature: verify.NotAuthentic, Malformed: verify.Malformed}[b.Expect]
			if r.Verdict != want {
				t.Errorf("%s: verdict %q: %s; expected %q", b.About, r.Verdict, r.Reason, want)
			}
			if b.Expect == Signature && r.Step(verify.StepAgent).Outcome != verify.Fail {
				t.Error("the step that fails must be the agent's signature")
			}
			if b.Expect != Agrees {
				return
			}
			e := expected(t, text)
			e.File, e.About = b.File, b.About
			if e != b {
				t.Errorf("replayed %+v\nrecorded %+v", e, b)
			}
		})
	}
}

// The daemon of this tree answers like the recorded one: the same members of
// the same kinds, the same errors.
func TestDaemonAnswersAsRecorded(t *testing.T) {
	exchanges, _ := load(t)
	s := newStage(t, granted)
	inContainer := map[string]bool{}
	for _, a := range asked {
		inContainer[a.name] = a.inside
	}
	compared := 0
	for _, x := range exchanges {
		if inContainer[x.Name] || x.Name == "rate limited" {
			continue
		}
		compared++
		reply, err := exchange(s.socket(), x.Request+"\n")
		if err != nil {
			t.Fatalf("%s: %v", x.Name, err)
		}
		if got, want := shape(parsed(t, []byte(reply))), shape(parsed(t, []byte(x.Reply))); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: answered %s\nrecorded %s", x.Name, reply, x.Reply)
		}
	}
	if compared < 20 {
		t.Errorf("only %d exchanges were compared", compared)
	}
}

// shape is JSON without values that change from run to run: errors keep their
// code and the members of data, all else keeps names and kinds.
func shape(v any) any {
	switch v := v.(type) {
	case map[string]any:
		shaped := map[string]any{}
		for name, of := range v {
			shaped[name] = shape(of)
			if name == "code" {
				shaped[name] = of
			}
		}
		return shaped
	case []any:
		kinds := map[string]any{}
		for _, of := range v {
			text, _ := json.Marshal(shape(of))
			kinds[string(text)] = nil
		}
		var names []string
		for kind := range kinds {
			names = append(names, kind)
		}
		sort.Strings(names)
		return names
	case string:
		return "text"
	case float64:
		return "number"
	}
	return v
}

// check.py, which is written from the manual alone, agrees with the vectors,
// and with evidence that the daemon gives now.
func TestIndependentCheck(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("left out: no python3")
	}
	t.Log(output(t, os.Environ(), "", python, "check.py", "--vectors"))
	s := newStage(t, "")
	c, err := rpc.Dial(t.Context(), s.socket())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	bundle, err := c.GetEvidence(t.Context(), rpc.EvidenceParams{Nonce: nonce, UserData: []byte("fresh")})
	if err != nil {
		t.Fatal(err)
	}
	write(t, s.path("fresh.json"), bundle)
	output(t, os.Environ(), "", python, "check.py", s.path("fresh.json"))
}
