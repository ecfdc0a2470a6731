package predict

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/packaging/test/engine"
)

var whole = flag.Bool("whole", false, "have the engines run every line of testdata, not only those with a +")

func TestMain(m *testing.M) {
	if err := engine.Alone(); err != nil {
		fmt.Fprintln(os.Stderr, "left out:", err)
	}
	os.Exit(m.Run())
}

// line is one of testdata's.
type line struct {
	text  string
	exact bool // it is predicted exactly; otherwise predict names what it can't know
}

func lines(t *testing.T, name string) (all []line) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".lines"))
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(text)) {
		mark, text, ok := strings.Cut(strings.TrimSpace(l), " ")
		if ok && mark[0] != '#' && (*whole || strings.HasSuffix(mark, "+")) {
			all = append(all, line{text, mark[0] == '='})
		}
	}
	if len(all) < 10 {
		t.Fatalf("only %d lines are in %s.lines", len(all), name)
	}
	return all
}

const (
	testPasswd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:app:/home/app:/bin/sh\n"
	testGroup  = "root:x:0:\nbin:x:1:root\nwheel:x:10:root,app\napp:x:1001:\n"
)

// testFiles are those that lines name.
var testFiles = map[string]string{
	"/run/env":          "# a comment\nF1=one\nF2=two words\n",
	"/run/seccomp.json": `{"defaultAction":"SCMP_ACT_ALLOW"}`,
}

func readTestFile(name string) ([]byte, error) {
	text, ok := testFiles[name]
	if !ok {
		return nil, os.ErrNotExist
	}
	return []byte(text), nil
}

// machine is an engine with what the lines need.
type machine struct {
	*testing.T
	*engine.Engine
	name   Engine
	images map[string]Image
}

func newMachine(t *testing.T, name Engine, start func() (*engine.Engine, error)) *machine {
	if testing.Short() {
		t.Skip("left out: -short")
	}
	e, err := start()
	if err != nil {
		t.Skip("left out:", err)
	}
	m := &machine{t, e, name, make(map[string]Image)}
	for name, text := range testFiles {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll("/run/data", 0o755); err != nil {
		t.Fatal(err)
	}
	m.build("predict:1", "ENV IMG=1", `CMD ["/bin/sleep","1000"]`)
	m.build("predict:2", "ENV IMG=1", "ENV PATH=/bin:/usr/bin", `ENTRYPOINT ["/bin/sleep"]`, `CMD ["1000"]`, "USER app", "WORKDIR /home/app", "VOLUME /vol", "LABEL a=b")
	m.do("run", "-d", "--network", "none", "--ipc", "shareable", "--name", "other", "predict:1")
	return m
}

func (m *machine) do(args ...string) string {
	m.Helper()
	out, err := m.Do(context.Background(), "", args...)
	if err != nil {
		m.Fatal(err)
	}
	return out
}

// build makes an image and reads its configuration back from the engine's archive.
func (m *machine) build(name string, changes ...string) {
	m.Helper()
	i := engine.NewImage().File("/bin/busybox", "/bin/busybox").Link("/bin/sh", "busybox").Link("/bin/sleep", "busybox").
		Text("/etc/passwd", []byte(testPasswd)).Text("/etc/group", []byte(testGroup))
	layer, err := i.Bytes()
	if err != nil {
		m.Fatal(err)
	}
	args := []string{"import"}
	for _, c := range changes {
		args = append(args, "--change", c)
	}
	if _, err := m.Do(context.Background(), string(layer), append(args, "-", name)...); err != nil {
		m.Fatal(err)
	}
	users, err := ParseUsers([]byte(testPasswd), []byte(testGroup))
	if err != nil {
		m.Fatal(err)
	}
	m.images[name] = Image{Config: m.config(name), Users: users}
}

// config reads an image's configuration from the engine's storage.
func (m *machine) config(name string) *launch.ImageConfig {
	m.Helper()
	id := strings.TrimPrefix(m.do("image", "inspect", "--format", "{{.Id}}", name), "sha256:")
	file := "/var/lib/docker/image/overlay2/imagedb/content/sha256/" + id
	if m.name == Podman { // containers/storage names big data in base64 behind a "="
		found, err := filepath.Glob("/var/lib/containers/storage/overlay-images/" + id + "/=c2hhMjU2*")
		if err != nil || len(found) == 0 {
			m.Fatalf("no configuration of %s: %v", name, err)
		}
		file = found[0]
	}
	text, err := os.ReadFile(file)
	if err != nil {
		m.Fatal(err)
	}
	c, err := launch.ParseImageConfig(text)
	if err != nil {
		m.Fatal(err)
	}
	if c.Digest != "sha256:"+id {
		m.Fatalf("the configuration of %s has the digest %s, and the engine says %s", name, c.Digest, id)
	}
	return c
}

// measured has the engine make the container of a line, and returns what the daemon
// would log of it; nil where the engine can't make it here.
func (m *machine) measured(text string, image Image) *launch.Asked {
	m.Helper()
	words, err := shellWords(text)
	if err != nil {
		m.Fatal(err)
	}
	args := words[1:]
	if m.name == Podman {
		args = append([]string{"create"}, words[3:]...) // run -d
	}
	id, err := m.Do(context.Background(), "", args...)
	if err == nil && m.name == Podman {
		_, err = m.Do(context.Background(), "", "init", id)
	}
	defer m.Do(context.Background(), "", "rm", "-f", id)
	store := records.New(records.Options{})
	all, wrong := store.List(context.Background())
	if wrong != nil {
		m.Fatal(wrong)
	}
	i := slices.IndexFunc(all, func(r records.Record) bool { return r.ID == id })
	if i < 0 {
		m.Logf("left out: %s can't run it here: %s: %v", m.name, text, err)
		return nil
	}
	l, err := store.Measure(context.Background(), all[i])
	if err != nil || all[i].Err != nil || l.Asked == nil {
		m.Fatalf("%s: %v, %v", text, err, all[i].Err)
	}
	if l.ImageConfig != image.Config.Digest {
		m.Errorf("%s: measured by the configuration %q", text, l.ImageConfig)
	}
	return l.Asked
}

// asked is JSON, for a comparison that a person can read.
func asked(t testing.TB, a *launch.Asked) string {
	t.Helper()
	text, err := json.MarshalIndent(a, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// check compares each line's prediction with what the engine made of the line: equal,
// or named as not known.
func (m *machine) check() (ran, equal int) {
	all := lines(m.T, string(m.name))
	for _, l := range all {
		c, err := Line(l.text, readTestFile)
		if err != nil {
			m.Errorf("%s: %v", l.text, err)
			continue
		}
		p, err := Predict(c, m.images[c.Image], Host{LSM: lsm()}, launch.Rules{})
		if err != nil {
			m.Errorf("%s: %v", l.text, err)
			continue
		}
		real := m.measured(l.text, m.images[c.Image])
		if real == nil {
			continue
		}
		ran++
		want, got := asked(m.T, real), asked(m.T, p.Launch.Asked)
		if want == got {
			equal++
		} else if l.exact {
			m.Errorf("%s: predicted, and not so:\n%s", l.text, cmp.Diff(want, got))
		}
		if certain := len(p.Unknown) == 0; certain != l.exact {
			m.Errorf("%s: unknown is %v", l.text, p.Unknown)
		}
	}
	m.Logf("%s: %d of %d lines ran, %d were predicted exactly", m.name, ran, len(all), equal)
	if ran*20 < len(all)*19 {
		m.Errorf("%d of %d lines ran: 95 %% must", ran, len(all))
	}
	return ran, equal
}

// lsm is this machine's security module.
func lsm() string {
	text, err := os.ReadFile("/sys/kernel/security/lsm")
	for _, name := range []string{"apparmor", "selinux"} {
		if err == nil && strings.Contains(string(text), name) {
			return name
		}
	}
	return "none"
}

// What the engines make of a line is what was predicted, or predict names what it
// can't know; of all lines 95 % are predicted exactly.
func TestLinesOfEngines(t *testing.T) {
	ran, equal := 0, 0
	for name, start := range map[Engine]func() (*engine.Engine, error){Docker: engine.Docker, Podman: engine.Podman} {
		t.Run(string(name), func(t *testing.T) {
			r, e := newMachine(t, name, start).check()
			ran, equal = ran+r, equal+e
		})
	}
	if *whole && equal*20 < ran*19 {
		t.Errorf("%d of %d lines were predicted exactly: 95 %% must be", equal, ran)
	}
}
