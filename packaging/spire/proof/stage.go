package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cima-project/cima/packaging/test/engine"
	"github.com/cima-project/cima/rpc"
)

const (
	image = "cima-spire:1"
	agent = 1234 // uid and gid of spire-agent, which isn't root
)

// stage is a server, and machines.
type stage struct {
	plan
	dir      string
	engine   *engine.Engine
	server   *exec.Cmd
	machines []*machine
	expected map[string]string // container's ID: the only identity that it may get; "" none

	late int // containers whose start cimad judged too late

	mu sync.Mutex
}

// machine is a simulated TD with cimad and SPIRE's agent.
type machine struct {
	name, run        string // run: where cimad's sockets are
	td, daemon, node *exec.Cmd
}

func (m *machine) lookup() string { return m.run + "/cima-lookup/lookup.sock" }
func (m *machine) api() string    { return "/run/spire/" + m.name }

func (p plan) open(ctx context.Context) (s *stage, err error) {
	s = &stage{plan: p, expected: map[string]string{}, machines: []*machine{{name: "one", run: "/run/one"}, {name: "two", run: "/run/two"}}}
	if s.dir, err = os.MkdirTemp("", "cima-spire-"); err != nil {
		return s, err
	}
	os.Chmod(s.dir, 0o755)
	for _, program := range []string{"server", "agent"} {
		if _, err := output(exec.Command(filepath.Join(s.spire, "spire-"+program), "validate", "-config", filepath.Join(s.examples, program+".conf"))); err != nil {
			return s, err
		}
	}
	if s.engine, err = engine.Docker(); err != nil {
		return s, err
	}
	self, err := os.Executable()
	if err != nil {
		return s, err
	}
	if err := s.engine.Import(ctx, image, engine.NewImage().Folder("/tmp", 0o1777).File("/proof", self)); err != nil {
		return s, err
	}
	for _, m := range s.machines {
		if err := s.boot(m); err != nil {
			return s, err
		}
	}
	if err := s.policies(); err != nil {
		return s, err
	}
	if err := s.startServer(); err != nil {
		return s, err
	}
	for _, m := range s.machines {
		if err := s.startAgent(m); err != nil {
			return s, err
		}
	}
	return s, s.alias()
}

func (s *stage) close() {
	for _, m := range s.machines {
		for _, c := range []*exec.Cmd{m.node, m.daemon, m.td} {
			end(c, syscall.SIGTERM)
		}
	}
	end(s.server, syscall.SIGTERM)
}

func end(c *exec.Cmd, signal syscall.Signal) {
	if c != nil && c.Process != nil {
		c.Process.Signal(signal)
		c.Wait()
	}
}

// begin starts a program whose messages go to a file of its name.
func (s *stage) begin(name string, words ...string) (*exec.Cmd, error) {
	log, err := os.OpenFile(filepath.Join(s.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	c := exec.Command(words[0], words[1:]...)
	c.Stdout, c.Stderr = log, log
	return c, c.Start()
}

func listens(path string) error {
	for range 1200 {
		if nc, err := net.Dial("unix", path); err == nil {
			return nc.Close()
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("nobody listens at %s", path)
}

func (s *stage) boot(m *machine) (err error) {
	dir := "/run/td-" + m.name
	if m.td, err = s.begin("td-"+m.name, filepath.Join(s.bin, "cimad-sim"), "td", "--dir", dir, "--quote-delay", "1s"); err != nil {
		return err
	}
	if err := listens(dir + "/td.sock"); err != nil {
		return err
	}
	return s.startDaemon(m)
}

func (s *stage) startDaemon(m *machine) (err error) {
	m.daemon, err = s.begin("cimad-"+m.name, filepath.Join(s.bin, "cimad-sim"), "--td", "/run/td-"+m.name+"/td.sock", "--runtime-dir", m.run, "--config", filepath.Join(s.dir, "none.toml"))
	if err != nil {
		return err
	}
	if err := listens(m.lookup()); err != nil {
		return err
	}
	// Without systemd nobody gives the socket to the group.
	return errors.Join(os.Chown(filepath.Dir(m.lookup()), 0, agent), os.Chmod(filepath.Dir(m.lookup()), 0o750),
		os.Chown(m.lookup(), 0, agent), os.Chmod(m.lookup(), 0o660))
}

// asUnit are the words that run a program in the cgroup of a unit.
func asUnit(unit string, words ...string) []string {
	return append([]string{"sh", "-euc", `
		for at in /sys/fs/cgroup/systemd /sys/fs/cgroup; do
			[ -w "$at/cgroup.procs" ] || continue
			mkdir -p "$at/system.slice/$0" && echo $$ >"$at/system.slice/$0/cgroup.procs" && break
		done
		exec "$@"`, unit}, words...)
}

// policies makes that of nodes from the evidence of a process of the agent's unit, as an
// administrator does, and that of workloads.
func (s *stage) policies() error {
	var roots []byte
	for _, m := range s.machines {
		text, err := os.ReadFile("/run/td-" + m.name + "/root.pem")
		if err != nil {
			return err
		}
		roots = append(roots, text...)
	}
	root := filepath.Join(s.dir, "root.pem")
	if err := os.WriteFile(root, roots, 0o644); err != nil {
		return err
	}
	var files []string
	for _, m := range s.machines {
		words := asUnit("spire-agent.service", filepath.Join(s.bin, "cimactl"), "--socket", m.run+"/cima/cima.sock", "evidence", "--nonce", "-")
		c := exec.Command(words[0], words[1:]...)
		c.Stdin = strings.NewReader("0123456789abcdef0123456789abcdef")
		out, err := output(c)
		if err != nil {
			return err
		}
		file := filepath.Join(s.dir, m.name+".json")
		if err := os.WriteFile(file, out, 0o600); err != nil {
			return err
		}
		files = append(files, file)
	}
	out, err := output(exec.Command(filepath.Join(s.bin, "cimactl"), append([]string{"policy", "init", "--trust-root", root, "--waive", "collateral,host-input-unknown"}, files...)...))
	if err != nil {
		return err
	}
	// Workloads have the directory of SPIRE's socket mounted, which is the host's.
	text := strings.Replace(string(out), "allow = []", "allow = []\nallow_kinds = [\"host-read\"]", 1)
	if err := s.names(strings.Repeat("ab", 48), "", ""); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.dir, "nodes.toml"), []byte(text), 0o644)
}

// names makes the policy of workloads, whose alternatives are selectors.
func (s *stage) names(launch, power, more string) error {
	text := fmt.Sprintf("cima_policy = 2\n[power]\nallow_kinds = [%s]\n[[container]]\nname = \"shop\"\nlaunch = [%q]\n%s", power, launch, more)
	path := filepath.Join(s.dir, "names.toml")
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func output(c *exec.Cmd) ([]byte, error) {
	var said strings.Builder
	c.Stderr = &said
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(c.Args, " "), err, said.String())
	}
	return out, nil
}

func (s *stage) plugin(name, kind, word, data string) string {
	text, err := os.ReadFile(filepath.Join(s.bin, "cima-spire"))
	if err != nil {
		exit(err)
	}
	return fmt.Sprintf("  %s %q {\n    plugin_cmd = %q\n    plugin_args = [%q]\n    plugin_checksum = \"%x\"\n    plugin_data {\n%s    }\n  }\n",
		kind, name, filepath.Join(s.bin, "cima-spire"), word, sha256.Sum256(text), data)
}

func (s *stage) startServer() error {
	dir := filepath.Join(s.dir, "server")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	text := fmt.Sprintf(`server {
  bind_address = "127.0.0.1"
  bind_port = "18081"
  socket_path = %q
  trust_domain = "cima.test"
  data_dir = %q
  log_level = "INFO"
}
plugins {
  DataStore "sql" { plugin_data { database_type = "sqlite3" connection_string = %q } }
  KeyManager "disk" { plugin_data { keys_path = %q } }
%s}
`, dir+"/api.sock", dir, dir+"/ds.sqlite3", dir+"/keys.json", s.plugin("cima", "NodeAttestor", "node-server",
		fmt.Sprintf("      policy = %q\n      trust_root = %q\n", s.dir+"/nodes.toml", s.dir+"/root.pem")))
	if err := os.WriteFile(s.dir+"/server.conf", []byte(text), 0o600); err != nil {
		return err
	}
	var err error
	if s.server, err = s.begin("spire-server", filepath.Join(s.spire, "spire-server"), "run", "-config", s.dir+"/server.conf"); err != nil {
		return err
	}
	if err := listens(dir + "/api.sock"); err != nil {
		return err
	}
	bundle, err := s.ask("bundle", "show")
	if err != nil {
		return err
	}
	return os.WriteFile(s.dir+"/bundle.pem", []byte(bundle), 0o644)
}

// ask has spire-server do something.
func (s *stage) ask(words ...string) (string, error) {
	out, err := output(exec.Command(filepath.Join(s.spire, "spire-server"), append(words, "-socketPath", s.dir+"/server/api.sock")...))
	return string(out), err
}

func (s *stage) startAgent(m *machine) error {
	dir := filepath.Join(s.dir, "agent-"+m.name)
	for _, d := range []string{dir, "/run/spire", m.api()} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if err := errors.Join(os.Chown(dir, agent, agent), os.Chown(m.api(), agent, agent)); err != nil {
		return err
	}
	text := fmt.Sprintf(`agent {
  data_dir = %q
  trust_domain = "cima.test"
  server_address = "127.0.0.1"
  server_port = "18081"
  socket_path = %q
  trust_bundle_path = %q
  log_level = "INFO"
}
plugins {
  KeyManager "memory" { plugin_data {} }
%s%s}
`, dir, m.api()+"/api.sock", s.dir+"/bundle.pem",
		s.plugin("cima", "NodeAttestor", "node-agent", fmt.Sprintf("      socket = %q\n", m.run+"/cima/cima.sock")),
		s.plugin("cima", "WorkloadAttestor", "workload", fmt.Sprintf("      socket = %q\n      policy = %q\n", m.lookup(), s.dir+"/names.toml")))
	if err := os.WriteFile(dir+".conf", []byte(text), 0o644); err != nil {
		return err
	}
	words := asUnit("spire-agent.service", "env", "TMPDIR="+dir, "setpriv", "--reuid", fmt.Sprint(agent), "--regid", fmt.Sprint(agent), "--clear-groups",
		filepath.Join(s.spire, "spire-agent"), "run", "-config", dir+".conf")
	var err error
	if m.node, err = s.begin("spire-agent-"+m.name, words...); err != nil {
		return err
	}
	return listens(m.api() + "/api.sock")
}

// alias makes the node on whose selectors all entries hang.
func (s *stage) alias() error {
	_, err := s.ask("entry", "create", "-node", "-spiffeID", "spiffe://cima.test/nodes", "-selector", "cima:unit:spire-agent.service", "-selector", "cima:uid:"+fmt.Sprint(agent))
	return err
}

// entry gives a launch an identity.
func (s *stage) entry(name, launch string) error {
	return s.create(name, "cima:launch_digest:"+launch, "cima:start:gated")
}

// create gives an identity to who has these selectors.
func (s *stage) create(name string, selectors ...string) error {
	words := []string{"entry", "create", "-parentID", "spiffe://cima.test/nodes", "-spiffeID", "spiffe://cima.test/" + name}
	for _, one := range selectors {
		words = append(words, "-selector", one)
	}
	_, err := s.ask(words...)
	return err
}

// container starts one, which may get this identity alone.
func (s *stage) container(ctx context.Context, m *machine, identity string, words ...string) (id string, err error) {
	flags := []string{"run", "-d", "--network", "none", "-v", m.api() + ":/spire:ro"}
	if words[0] == "serve" || words[0] == "dial" {
		flags = append(flags, "-v", "meet:/meet")
	}
	id, err = s.engine.Do(ctx, "", slices.Concat(flags, s.engine.Run, []string{image, "/proof"}, words)...)
	if err == nil {
		s.mu.Lock()
		s.expected[id] = ""
		if identity != "" {
			s.expected[id] = "spiffe://cima.test/" + identity
		}
		s.mu.Unlock()
	}
	return id, err
}

// look asks cimad of a container's first process.
func (s *stage) look(ctx context.Context, m *machine, id string) (who rpc.ProcessIdentity, pid int, err error) {
	text, err := s.engine.Do(ctx, "", "inspect", "--format", "{{.State.Pid}}", id)
	if err != nil {
		return who, 0, err
	}
	if pid, err = strconv.Atoi(text); err != nil {
		return who, 0, err
	}
	client, err := rpc.Dialer{Path: m.lookup(), Patience: 30 * time.Second}.Dial(ctx)
	if err != nil {
		return who, pid, err
	}
	defer client.Close()
	who, err = client.LookUpProcess(ctx, rpc.ProcessParams{PID: pid})
	if err == nil && (who.Container == nil || who.Container.ID != id || who.Container.LaunchDigest == nil || who.Container.Assurance.Start != "gated") {
		return who, pid, fmt.Errorf("the first process of %.12s is %+v", id, who)
	}
	return who, pid, err
}

// known starts a container and gives its launch an identity.
func (s *stage) known(ctx context.Context, m *machine, name string, words ...string) (id string, err error) {
	if id, err = s.container(ctx, m, name, words...); err != nil {
		return id, err
	}
	who, _, err := s.look(ctx, m, id)
	if err != nil {
		return id, err
	}
	say("%s is %.12s: launch %.16s…, power %v", name, id, who.Container.LaunchDigest, who.Power)
	return id, s.entry(name, who.Container.LaunchDigest.String())
}

// lines is what a container printed.
func (s *stage) lines(ctx context.Context, id string) []string {
	out, _ := s.engine.Command(ctx, "logs", id).CombinedOutput()
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// until waits until a container prints a line that begins so, beyond the first skip lines.
func (s *stage) until(ctx context.Context, id, begin string, skip int) error {
	for range 600 {
		if got := s.lines(ctx, id); len(got) > skip && slices.ContainsFunc(got[skip:], func(l string) bool { return strings.HasPrefix(l, begin) }) {
			return nil
		}
		time.Sleep(200 * time.Millisecond)
	}
	got := s.lines(ctx, id)
	return fmt.Errorf("container %.12s never said %q, but %q", id, begin, got[len(got)-1])
}
