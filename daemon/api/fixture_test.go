package api

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/containers"
	"github.com/cima-project/cima/daemon/daemontest"
	"github.com/cima-project/cima/daemon/execs"
	"github.com/cima-project/cima/daemon/journal"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/daemon/peer"
	"github.com/cima-project/cima/daemon/quotes"
	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/rpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture is an API on a simulated TD, which answers on two sockets. It sees no
// container of this machine.
type fixture struct {
	t          *testing.T
	dir        string
	machine    *sim.Machine
	config     config.Config
	roots      []*x509.Certificate
	key        ed25519.PublicKey
	ledger     *ledger.Ledger
	containers *containers.Manager
	api        *API
	log        *daemontest.Buffer
	stop       func()
}

// noRecords declares no container.
type noRecords struct{}

func (noRecords) Declared(context.Context, string, string) (peer.Container, bool, error) {
	return peer.Container{}, false, nil
}

func newFixture(t *testing.T, configure ...func(*config.Config)) *fixture {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.MkdirTemp("/tmp", "cima-a") // the path of a socket must be short
	must(err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(os.Chmod(dir, 0o755)) // other uids must be able to connect
	machine, err := sim.Boot(sim.Config{})
	must(err)
	block, _ := pem.Decode(machine.RootPEM())
	root, err := x509.ParseCertificate(block.Bytes)
	must(err)
	f := &fixture{t: t, dir: dir, machine: machine, config: config.Default(), roots: []*x509.Certificate{root}, log: &daemontest.Buffer{}}
	for _, c := range configure {
		c(&f.config)
	}
	inForce := func() *config.Config { return &f.config }
	bounded := journal.Bound(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	log := slog.New(bounded)
	public, private, err := ed25519.GenerateKey(nil)
	must(err)
	f.key = public
	bootID, err := machine.BootID()
	must(err)
	whole, err := machine.BootLog()
	must(err)
	bootLog, err := boot.Trim(whole)
	must(err)
	tee := quotes.NewTimedTEE(machine)
	f.ledger, err = ledger.Open(t.Context(), ledger.Options{
		Dir: t.TempDir(), BootID: bootID, Anchor: f.config.Anchor, Register: tee, Log: log,
		Limits: f.config.LogLimits(config.Budget{BootLog: len(bootLog)}),
	})
	must(err)
	event := func(operation string, measured any) func(context.Context) (ledger.Event, error) {
		return func(context.Context) (ledger.Event, error) {
			return ledger.Event{Operation: operation, Measured: measured}, nil
		}
	}
	must(f.ledger.Begin(t.Context(),
		event(logs.OpStart, logs.StartBody{Version: "test", AgentKey: logs.AgentKey(public), BootID: bootID}),
		event(logs.OpPolicy, logs.PolicyBody{}),
		event(logs.OpSeal, logs.SealBody{Engines: []string{}})))
	peers, err := peer.New(peer.Options{Records: noRecords{}})
	must(err)
	store := records.New(records.Options{Places: []records.Place{}})
	f.containers, err = containers.New(containers.Options{
		Ledger: f.ledger, Records: func() *records.Store { return store }, Peers: peers, Config: inForce, Log: log, Dir: t.TempDir(),
	})
	must(err)
	f.api, err = New(Options{
		Version: "test", Started: time.Now(), BootID: bootID, BootLog: bootLog, Key: private,
		Ledger: f.ledger, Containers: f.containers, Peers: peers, TEE: tee, Config: inForce, Log: log,
		Starts: &f.containers.Counts, Execs: func() *execs.Counts { return new(execs.Counts) }, LeftOut: bounded.LeftOut,
	})
	must(err)
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serve := func(name string, s interface {
		Serve(context.Context, net.Listener) error
	}) {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, name), Net: "unix"})
		must(err)
		must(os.Chmod(filepath.Join(dir, name), 0o666))
		serving.Go(func() { s.Serve(ctx, l) })
	}
	serve("cima.sock", f.api.CallerServer())
	serve("admin.sock", f.api.AdminServer())
	serve("lookup.sock", LookupServer(f.api))
	f.stop = sync.OnceFunc(func() {
		cancel()
		serving.Wait()
		peers.Close()
		f.containers.Close()
		f.ledger.Close()
		bounded.Close()
	})
	t.Cleanup(func() {
		f.stop()
		if t.Failed() {
			t.Logf("the log:\n%s", f.log)
		}
	})
	return f
}

func (f *fixture) socket() string { return filepath.Join(f.dir, "cima.sock") }

func (f *fixture) dial(name string) *rpc.Client {
	f.t.Helper()
	c, err := rpc.Dial(f.t.Context(), filepath.Join(f.dir, name))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { c.Close() })
	return c
}

// client calls as this test process, on the host.
func (f *fixture) client() *rpc.Client { return f.dial("cima.sock") }

// adminClient calls as root on the admin socket.
func (f *fixture) adminClient() *rpc.Client { return f.dial("admin.sock") }

var nonce = []byte("a nonce of the test's")

// evidence requests evidence as this process, and returns the bundle as it
// came.
func (f *fixture) evidence() ([]byte, error) {
	var raw rawJSON
	err := f.client().Call(f.t.Context(), rpc.MethodGetEvidence, rpc.EvidenceParams{Nonce: nonce}, &raw)
	return raw, err
}

type rawJSON []byte

func (r *rawJSON) UnmarshalJSON(b []byte) error { *r = append((*r)[:0], b...); return nil }

// wantAuthentic appraises with the simulation's root, and fails the test if a
// step failed.
func (f *fixture) wantAuthentic(bundle []byte) *verify.Result {
	f.t.Helper()
	r, err := verify.Appraise(f.t.Context(), bundle, verify.Options{Nonce: nonce, TrustRoots: f.roots})
	if err != nil {
		f.t.Fatal(err)
	}
	if r.Verdict != verify.NotTrusted {
		for _, s := range r.Failed() {
			f.t.Errorf("%s: %s", s.Name, s.Detail)
		}
		f.t.Fatalf("verdict %q: %s", r.Verdict, r.Reason)
	}
	return r
}

func decode[T any](t *testing.T, b []byte) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return v
}

func wantCode(t *testing.T, err error, code rpc.Code) *rpc.Error {
	t.Helper()
	var e *rpc.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Fatalf("error %v, want code %d", err, code)
	}
	return e
}
