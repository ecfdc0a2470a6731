package daemon

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/daemontest"
	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/packaging/test/engine"
	"github.com/cima-project/cima/rpc"
)

// fixture is a daemon on a simulated TD, in a short directory.
type fixture struct {
	t       *testing.T
	dir     string
	machine *sim.Machine
	config  config.Config
	records *records.Store // nil: this machine's
	imaDir  string         // "": this machine's
	tee     hw.TEE         // nil: machine
	roots   []*x509.Certificate

	daemon *Daemon
	stop   func()
	log    *daemontest.Buffer
}

// newFixture sees no container of this machine.
func newFixture(t *testing.T, configure ...func(*config.Config)) *fixture {
	t.Helper()
	return startFixture(t, records.New(records.Options{Places: []records.Place{}}), configure...)
}

// dockerFixture sees all containers of this machine. It skips the test if there
// is no docker.
func dockerFixture(t *testing.T, configure ...func(*config.Config)) *fixture {
	t.Helper()
	needDocker(t)
	f := startFixture(t, nil, configure...)
	f.usualPlace()
	return f
}

// usualPlace mounts the directory of the callers' socket where cimad has it: a container
// that mounts that one has no power by it.
func (f *fixture) usualPlace() {
	f.t.Helper()
	const usual = "/run/cima" // in the namespaces of the test's own, as it has an engine
	if err := os.MkdirAll(usual, 0o755); err != nil {
		f.t.Fatal(err)
	}
	if err := unix.Mount(filepath.Dir(f.socket()), usual, "", unix.MS_BIND, ""); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { unix.Unmount(usual, unix.MNT_DETACH) })
}

func startFixture(t *testing.T, records *records.Store, configure ...func(*config.Config)) *fixture {
	t.Helper()
	return startFixtureOn(t, sim.Config{}, records, configure...)
}

// startFixtureOn starts a daemon on a TD that boots in its own way.
func startFixtureOn(t *testing.T, td sim.Config, records *records.Store, configure ...func(*config.Config)) *fixture {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "cima-t")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // containers enter as any uid
		t.Fatal(err)
	}
	machine, err := sim.Boot(td)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(machine.RootPEM())
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, dir: dir, machine: machine, config: config.Default(), records: records, roots: []*x509.Certificate{root}, log: &daemontest.Buffer{}}
	f.config.Gate.Mode = config.GateOff // tests of the gate turn it on
	if records != nil {
		f.config.Engines.Docker, f.config.Engines.Podman = "", "" // the machine's engines don't know these records
	}
	for _, c := range configure {
		c(&f.config)
	}
	f.start()
	t.Cleanup(func() {
		f.stop()
		if t.Failed() {
			t.Logf("the daemon's log:\n%s", f.log)
		}
	})
	return f
}

// start starts the daemon; the machine keeps its state.
func (f *fixture) start() {
	f.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	tee := f.tee
	if tee == nil {
		tee = f.machine
	}
	d, err := New(ctx, Options{
		TEE: tee, Config: f.config, ConfigFile: f.configFile(), LogDir: dirsUnder(f.dir).log, Version: "test", Records: f.records, IMADir: f.imaDir,
		Log: slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		cancel()
		f.t.Fatal(err)
	}
	sockets, err := inherited{}.complete(dirsUnder(f.dir))
	if err != nil {
		cancel()
		f.t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- d.Serve(ctx, sockets) }()
	f.daemon = d
	f.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			f.t.Errorf("serve: %v", err)
		}
		d.Close()
	})
}

func (f *fixture) restart() {
	f.t.Helper()
	f.stop()
	f.start()
}

// configFile is what a reload reads; a test writes it.
func (f *fixture) configFile() string { return filepath.Join(f.dir, "cimad.toml") }

func (f *fixture) socket() string { return filepath.Join(f.dir, "cima", "cima.sock") }

// client calls as this test process, on the host.
func (f *fixture) client() *rpc.Client {
	f.t.Helper()
	c, err := rpc.Dial(f.t.Context(), f.socket())
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { c.Close() })
	return c
}

// adminClient calls as root on the admin socket.
func (f *fixture) adminClient() *rpc.Client {
	f.t.Helper()
	c, err := rpc.Dial(f.t.Context(), f.dir+"/cima-admin/admin.sock")
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { c.Close() })
	return c
}

var nonce = []byte("a nonce of the test's")

// appraise verifies a bundle with the simulation's root.
func (f *fixture) appraise(bundle []byte, policy *policy.Policy) *verify.Result {
	f.t.Helper()
	r, err := verify.Appraise(f.t.Context(), bundle, verify.Options{Nonce: nonce, TrustRoots: f.roots, Policy: policy})
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

// wantAuthentic appraises and fails the test if a step failed.
func (f *fixture) wantAuthentic(bundle []byte) *verify.Result {
	f.t.Helper()
	r := f.appraise(bundle, nil)
	if r.Verdict != verify.NotTrusted {
		for _, s := range r.Failed() {
			f.t.Errorf("%s: %s", s.Name, s.Detail)
		}
		f.t.Fatalf("verdict %q: %s", r.Verdict, r.Reason)
	}
	return r
}

// docker runs the docker command, or skips the test if no docker answers.
func docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("docker", args...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = errors.New(string(exit.Stderr))
		}
		t.Fatalf("docker %s: %v", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out))
}

// needDocker makes the image once and skips the test if it can't be made.
func needDocker(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("left out: -short")
	}
	if _, err := engine.Docker(); err != nil {
		t.Skip("left out:", err)
	}
	if err := makeImage(); err != nil {
		t.Fatal(err)
	}
}

const testImage = "cima-daemon-test:1"

// makeImage makes an image of cimactl alone.
var makeImage = sync.OnceValue(func() error {
	text, err := cimactl()
	if err != nil {
		return err
	}
	docker, err := engine.Docker()
	if err != nil {
		return err
	}
	return docker.Import(context.Background(), testImage, engine.NewImage().Text("/cimactl", text))
})

// cimactl builds the program for images, once.
var cimactl = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "cimactl")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "cimactl"), "../rpc/cimactl")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build cimactl: %w: %s", err, out)
	}
	return os.ReadFile(filepath.Join(dir, "cimactl"))
})

// inContainer runs cimactl in a container of this test's engine and returns its
// output. flags are docker run's, args cimactl's.
func (f *fixture) inContainer(flags []string, args ...string) (stdout []byte, err error) {
	f.t.Helper()
	run := append([]string{"run", "--rm", "--network", "none", "-v", filepath.Dir(f.socket()) + ":/run/cima:ro"}, flags...)
	c := exec.Command("docker", append(append(run, testImage, "/cimactl"), args...)...)
	var errText bytes.Buffer
	c.Stderr = &errText
	stdout, err = c.Output()
	if err != nil {
		err = errors.New(strings.TrimSpace(errText.String()))
	}
	return stdout, err
}

// evidenceOf gets evidence of a new container.
func (f *fixture) evidenceOf(flags ...string) []byte {
	f.t.Helper()
	out, err := f.inContainer(flags, "evidence", "--nonce", hex.EncodeToString(nonce))
	if err != nil {
		f.t.Fatalf("evidence: %v", err)
	}
	return out
}

func decode[T any](t *testing.T, b []byte) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return v
}

func claimsOf(t *testing.T, bundle []byte) rpc.Claims {
	t.Helper()
	return decode[rpc.Claims](t, decode[rpc.Evidence](t, bundle).Claims)
}
