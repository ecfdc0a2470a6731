package main

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/packaging/test/engine"
	"github.com/cima-project/cima/rpc"
)

var (
	kills = flag.Int("kills", 20, "`N` kills of TestKills")
	on    = flag.String("platform", "tdx", "`NAME` of the platform of TestKills")
)

// The daemon is killed at random moments while a container extends its register
// without pause. The test is its service manager: it keeps the sockets and the
// agent key, as systemd does. After each restart log and register agree, each
// acknowledged extend is in the log once, and evidence verifies with the key of
// event 0.
func TestKills(t *testing.T) {
	kills := *kills
	m := newManager(t)
	acknowledged := m.extender()
	rnd := rand.New(rand.NewPCG(1, uint64(kills)))
	checks := 0
	for k := range kills {
		before := len(acknowledged())
		m.start()
		for k%2 == 0 && len(acknowledged()) == before { // the others are killed at any moment
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Duration(rnd.IntN(160)) * time.Millisecond)
		if k%10 == 9 {
			m.check(acknowledged())
			checks++
		}
		m.kill()
	}
	m.start()
	total := m.check(acknowledged())
	t.Logf("%d kills, %d checks, %d extends acknowledged", kills, checks+1, total)
	if total < kills/2 {
		t.Errorf("only %d extends were acknowledged: nothing was in flight", total)
	}
}

// manager does for the daemon what systemd does.
type manager struct {
	*testing.T
	docker  *engine.Engine
	dir     string
	program string
	roots   []*x509.Certificate
	sockets []*os.File
	notify  *net.UnixConn

	mu  sync.Mutex
	key *os.File // the stored agent key

	daemon    *exec.Cmd
	container string
}

func newManager(t *testing.T) *manager {
	if testing.Short() {
		t.Skip("left out: -short")
	}
	docker, err := engine.Docker()
	if err != nil {
		t.Skip("left out:", err)
	}
	dir, err := os.MkdirTemp("/tmp", "cima-k")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	m := &manager{T: t, docker: docker, dir: dir, program: filepath.Join(dir, "cimad-sim")}
	m.build(m.program, ".")
	m.startTD()
	config := `[limits]
events_per_container = 1000000
evidence_reply = 16777216
requests_per_second = 1e6
requests_burst = 1000000
quotes_per_minute = 1e6
quotes_burst = 100000
[[access]]
allow = ["ExtendMeasurement"]
`
	if err := os.WriteFile(filepath.Join(dir, "cimad.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	os.Chmod(dir, 0o755)
	os.Mkdir(filepath.Join(dir, "cima"), 0o755)
	for _, name := range []string{"cima/cima.sock", "admin.sock"} {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, name), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		f, err := l.File()
		if err != nil {
			t.Fatal(err)
		}
		m.sockets = append(m.sockets, f)
	}
	os.Chmod(filepath.Join(dir, "cima/cima.sock"), 0o666)
	if m.notify, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.notify.Close() })
	go m.listen()
	return m
}

func (m *manager) build(out, pkg string) {
	m.Helper()
	c := exec.Command("go", "build", "-o", out, pkg)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := c.CombinedOutput(); err != nil {
		m.Fatalf("build %s: %v: %s", pkg, err, text)
	}
}

func (m *manager) startTD() {
	td := exec.Command(m.program, "td", "--dir", filepath.Join(m.dir, "td"), "--platform", *on)
	if err := td.Start(); err != nil {
		m.Fatal(err)
	}
	m.Cleanup(func() { td.Process.Kill(); td.Wait() })
	root := filepath.Join(m.dir, "td", rootFile)
	for range 500 {
		b, _ := os.ReadFile(root)
		if block, _ := pem.Decode(b); block != nil { // the file may be half written
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				m.Fatal(err)
			}
			m.roots = []*x509.Certificate{cert}
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	m.Fatal("the simulated TD doesn't start")
}

// listen stores what the daemon hands over (FDSTORE=1).
func (m *manager) listen() {
	text, control := make([]byte, 4096), make([]byte, 4096)
	for {
		n, cn, _, _, err := m.notify.ReadMsgUnix(text, control)
		if err != nil {
			return
		}
		if !strings.Contains(string(text[:n]), "FDSTORE=1") {
			continue
		}
		messages, _ := unix.ParseSocketControlMessage(control[:cn])
		for _, message := range messages {
			fds, _ := unix.ParseUnixRights(&message)
			for _, fd := range fds {
				m.mu.Lock()
				if m.key == nil {
					m.key = os.NewFile(uintptr(fd), "agent-key")
				} else {
					unix.Close(fd)
				}
				m.mu.Unlock()
			}
		}
	}
}

func (m *manager) start() {
	m.Helper()
	m.mu.Lock()
	files, names := m.sockets, "cima:cima-admin"
	if m.key != nil {
		files, names = append(files[:2:2], m.key), names+":agent-key"
	}
	m.mu.Unlock()
	// LISTEN_PID is the daemon's own: the shell becomes it.
	c := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, m.program,
		"--td", filepath.Join(m.dir, "td", socketFile), "--runtime-dir", m.dir, "--config", filepath.Join(m.dir, "cimad.toml"))
	c.Env = append(os.Environ(), "NOTIFY_SOCKET="+filepath.Join(m.dir, "notify"),
		fmt.Sprint("LISTEN_FDS=", len(files)), "LISTEN_FDNAMES="+names)
	c.ExtraFiles = files
	log, err := os.OpenFile(filepath.Join(m.dir, "log.txt"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		m.Fatal(err)
	}
	defer log.Close()
	c.Stderr = log
	if err := c.Start(); err != nil {
		m.Fatal(err)
	}
	m.daemon = c
}

func (m *manager) kill() {
	m.Helper()
	if m.daemon.Process.Signal(syscall.Signal(0)) != nil {
		m.Fatal("the daemon ended by itself")
	}
	m.daemon.Process.Kill()
	m.daemon.Wait()
}

// importImage builds a program of testdata and makes an image of it alone.
func (m *manager) importImage(name, program string) {
	m.Helper()
	built := filepath.Join(m.dir, program)
	m.build(built, "./testdata/"+program)
	if err := m.docker.Import(m.Context(), name, engine.NewImage().File("/"+program, built)); err != nil {
		m.Fatal(err)
	}
}

// extender starts a container that extends without pause, and returns a
// function that lists the acknowledged extends.
func (m *manager) extender() func() []string {
	m.Helper()
	m.importImage("cima-kill-test:1", "extender")
	cid := filepath.Join(m.dir, "cid")
	run := m.docker.Command(context.Background(), "run", "--rm", "--network", "none", "--cidfile", cid,
		"-v", filepath.Join(m.dir, "cima")+":/run/cima:ro", "cima-kill-test:1", "/extender")
	out, err := run.StdoutPipe()
	if err != nil {
		m.Fatal(err)
	}
	if err := run.Start(); err != nil {
		m.Fatal(err)
	}
	m.Cleanup(func() {
		m.docker.Command(context.Background(), "rm", "-f", m.container).Run()
		run.Wait()
		m.daemon.Process.Kill()
		m.daemon.Wait()
		if m.Failed() {
			log, _ := os.ReadFile(filepath.Join(m.dir, "log.txt"))
			m.Logf("the daemon's log ends:\n%s", log[:min(len(log), 3000)])
		}
	})
	for range 500 {
		if id, err := os.ReadFile(cid); err == nil && len(id) == 64 {
			m.container = string(id)
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	var mu sync.Mutex
	var acknowledged []string
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			mu.Lock()
			acknowledged = append(acknowledged, lines.Text())
			mu.Unlock()
		}
	}()
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string(nil), acknowledged...)
	}
}

// check appraises the container's evidence and looks for what was
// acknowledged before it was asked for.
func (m *manager) check(acknowledged []string) int {
	m.Helper()
	admin, err := rpc.Dialer{Path: filepath.Join(m.dir, "admin.sock"), Wait: true}.Dial(m.Context())
	if err != nil {
		m.Fatal(err)
	}
	defer admin.Close()
	nonce := []byte("of the killer")
	bundle, err := admin.Container(m.container).GetEvidence(m.Context(), rpc.EvidenceParams{Nonce: nonce})
	if err != nil {
		m.Fatalf("evidence: %v", err)
	}
	r, err := verify.Appraise(m.Context(), bundle, verify.Options{Nonce: nonce, TrustRoots: m.roots})
	if err != nil || r.Verdict != verify.NotTrusted {
		m.Fatalf("evidence after a kill: %v, %+v", err, r)
	}
	var e rpc.Evidence
	if err := json.Unmarshal(bundle, &e); err != nil {
		m.Fatal(err)
	}
	seen := make(map[string]int)
	keys := make(map[string]bool)
	for _, entry := range e.RuntimeLog {
		if entry.Event == nil {
			continue
		}
		event, err := logs.ParseEvent(entry.Event)
		if err != nil {
			m.Fatal(err)
		}
		switch event.Operation {
		case logs.OpExtend:
			var body logs.ExtendBody
			if err := json.Unmarshal(event.Body(), &body); err != nil {
				m.Fatal(err)
			}
			seen[body.Content]++
		case logs.OpStart:
			var body logs.StartBody
			if err := json.Unmarshal(event.Body(), &body); err != nil {
				m.Fatal(err)
			}
			keys[string(body.AgentKey)] = true
		}
	}
	if len(keys) != 1 {
		m.Errorf("%d agent keys over all starts", len(keys))
	}
	for _, n := range acknowledged {
		if seen[n] != 1 {
			m.Errorf("extend %s was acknowledged and is in the log %d times", n, seen[n])
		}
	}
	for n, times := range seen {
		if times > 1 {
			m.Errorf("extend %s is in the log %d times", n, times)
		}
	}
	return len(acknowledged)
}
