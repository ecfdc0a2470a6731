package records

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/power"
	"github.com/cima-project/cima/daemon/procfs"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/packaging/test/engine"
)

const judgedImage = "localhost/cima-judged:1"

// judged is a host with an engine, whose containers are judged.
type judged struct {
	*engine.Engine
	store *Store
}

type mounted = logs.MountedPlace

var imports sync.Map // engine's name → its image was made

func newJudged(t testing.TB, start func() (*engine.Engine, error)) *judged {
	t.Helper()
	e, err := start()
	if err != nil {
		skipUnavailable(t, err.Error())
	}
	if _, made := imports.LoadOrStore(e.Name, true); !made {
		image := engine.NewImage().File("/bin/busybox", "/bin/busybox").Link("/bin/sh", "busybox").Link("/bin/sleep", "busybox").Text("/etc/passwd", []byte("root:x:0:0::/:/bin/sh\n"))
		if err := e.Import(t.Context(), judgedImage, image); err != nil {
			t.Fatal(err)
		}
	}
	return &judged{e, New(Options{Data: []string{"/srv"}, DataRead: []string{"/usr/share"}})}
}

// run starts a container that sleeps, and returns its id. Its program opens no file: what
// its first process has is what it had at START.
func (x *judged) run(t testing.TB, options ...string) string {
	t.Helper()
	args := append(append([]string{"run", "-d"}, options...), judgedImage, "/bin/busybox", "sleep", "1000")
	if !slices.ContainsFunc(options, func(o string) bool { return strings.HasPrefix(o, "--network") || strings.HasPrefix(o, "--pod") }) {
		args = slices.Insert(args, 2, "--network=none")
	}
	id, err := x.Do(context.Background(), "", args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.remove(id) })
	return id
}

// remove ends a container without waiting.
func (x *judged) remove(id string) {
	if x.Name == "docker" {
		x.Do(context.Background(), "", "rm", "-f", id)
	} else {
		x.Do(context.Background(), "", "rm", "-f", "-t", "0", id)
	}
}

// record is that of a container that runs.
func (x *judged) record(t testing.TB, id string) Record {
	t.Helper()
	all, err := x.store.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(r Record) bool { return r.ID == id })
	if i < 0 || all[i].Err != nil || all[i].InitPID == 0 {
		t.Fatalf("container %s is not among %d records, or doesn't run", id, len(all))
	}
	return all[i]
}

// judge returns what the specification and the kernel show of a container.
func (x *judged) judge(t testing.TB, id string) (classes []string, v power.Verdict) {
	t.Helper()
	r := x.record(t, id)
	pidfd, err := unix.PidfdOpen(r.InitPID, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	said, err := x.store.Power(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	v, err = x.store.Judge(t.Context(), r, power.Init{PID: r.InitPID, PIDFD: pidfd})
	if err != nil {
		t.Fatal(err)
	}
	return slices.Compact(slices.Sorted(slices.Values(slices.Concat(said, v.Classes)))), v
}

// want runs a container and compares its classes.
func (x *judged) want(t testing.TB, want []string, options ...string) {
	t.Helper()
	got, _ := x.judge(t, x.run(t, options...))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s %s: %s", x.Name, strings.Join(options, " "), diff)
	}
}

// place makes files on the host.
func place(t testing.TB, files ...string) {
	t.Helper()
	for _, f := range files {
		var err error
		switch name, kind, _ := strings.Cut(f, " "); kind {
		case "dir":
			err = os.MkdirAll(name, 0o755)
		case "closed":
			err = os.MkdirAll(name, 0o700)
		case "socket":
			var l net.Listener
			if l, err = net.Listen("unix", name); err == nil {
				t.Cleanup(func() { l.Close() })
			}
		case "fifo":
			err = unix.Mkfifo(name, 0o644)
		case "secret":
			err = os.WriteFile(name, nil, 0o600)
		default:
			err = os.WriteFile(name, nil, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// onDisk has a directory of the test's on a disk: in the namespaces of the test, /run and
// /var/lib are in memory.
func onDisk(t testing.TB, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("left out: needs root to write to", filepath.Dir(dir))
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
}

func engines(t *testing.T, test func(t *testing.T, x *judged)) {
	t.Run("docker", func(t *testing.T) { test(t, newJudged(t, engine.Docker)) })
	t.Run("podman", func(t *testing.T) { test(t, newJudged(t, engine.Podman)) })
}

// What a user usually asks for has no class.
func TestJudgeUsual(t *testing.T) {
	engines(t, func(t *testing.T, x *judged) {
		data := filepath.Join("/srv", "cima-test-"+x.Name)
		onDisk(t, data)
		place(t, data+"/deep/er dir", data+"/file", "/run/cima dir", data+"/fifo fifo")
		if err := os.Symlink("/run/docker.sock", data+"/link"); err != nil {
			t.Fatal(err)
		}
		x.want(t, nil)
		x.want(t, nil, "-i")
		x.want(t, nil, "-t")
		x.want(t, nil, "-u", "1000", "--security-opt", "no-new-privileges", "-w", "/etc")
		x.want(t, nil, "--read-only", "--tmpfs", "/t")
		x.want(t, nil, "-v", "/anonymous", "-v", x.Name+"-named:/named")
		x.want(t, nil, "-v", data+":/data", "-v", data+"/file:/etc/conf:ro")
		x.want(t, nil, "-v", data+"/fifo:/fifo")
		x.want(t, nil, "-v", "/etc/os-release:/o:ro", "-v", "/etc/ssl/certs:/c:ro", "-v", "/usr/share/zoneinfo:/z:ro")
		x.want(t, nil, "-v", "/usr/share:/s:ro")
		x.want(t, nil, "-v", "/run/cima:/run/cima:ro")
		x.want(t, nil, "--cap-drop", "ALL", "--memory", "100m")
	})
}

// Each of these has power, and is told from what stands beside it.
func TestJudgeMounts(t *testing.T) {
	engines(t, func(t *testing.T, x *judged) {
		data := filepath.Join("/srv", "cima-power-"+x.Name)
		onDisk(t, data)
		onDisk(t, "/opt/cima-power-"+x.Name)
		place(t, data+"/sockets dir", data+"/sockets/s socket", "/run/cima dir", "/run/other dir", "/run/other/s socket", "/opt/cima-power-"+x.Name+"/conf")
		for _, test := range []struct {
			mount string
			want  []string
		}{
			{"/proc:/x:ro", []string{"mount:proc"}},
			{"/proc/self/:/x:ro", []string{"mount:proc"}},
			{"/sys:/x:ro", []string{"mount:sysfs"}},
			{"/sys/fs/cgroup:/x:ro", nil}, // below
			{"/dev/pts:/x", []string{"mount:devpts"}},
			{"/dev/shm:/x", []string{"host-write:/dev"}},
			{"/etc:/x:ro", []string{"host-read:/etc"}},
			{"/etc/shadow:/x:ro", []string{"host-read:/etc"}},
			{"/etc/ssl/certs:/x", []string{"host-write:/etc"}},
			{"/home:/x", []string{"host-write:/home"}},
			{"/opt/cima-power-" + x.Name + ":/x", []string{"host-write:/opt"}},
			{"/run:/x:ro", []string{"host-read:/run"}},
			{"/run/other:/x:ro", []string{"host-read:/run"}},
			{"/run/other/s:/x:ro", []string{"special-file:/run"}},
			{"/run/cima:/x", []string{"host-write:/run"}},
			{data + "/sockets:/x", []string{"data-with-sockets"}},
			{data + "/sockets:/x:ro", []string{"data-with-sockets"}},
			{data + "/sockets/s:/x:ro", []string{"data-with-sockets"}},
			{"/:/x:ro", []string{"host-read:/"}},
		} {
			if test.want == nil {
				continue
			}
			got, _ := x.judge(t, x.run(t, "-v", test.mount))
			for _, class := range test.want {
				if !slices.Contains(got, class) {
					t.Errorf("%s: %v lacks %s", test.mount, got, class)
				}
			}
			if len(got) != len(test.want) && !strings.HasPrefix(test.mount, "/:") && !strings.HasPrefix(test.mount, "/run:") && !strings.HasPrefix(test.mount, "/sys:") {
				t.Errorf("%s: %v, want %v", test.mount, got, test.want)
			}
		}
	})
}

// BenchmarkJudge is what START costs for a container of docker's with its usual mounts.
func BenchmarkJudge(b *testing.B) {
	x := newJudged(b, engine.Docker)
	id := x.run(b, "-v", "/anonymous", "-v", "named:/n", "-v", "/etc/os-release:/o:ro")
	r := x.record(b, id)
	pidfd, err := unix.PidfdOpen(r.InitPID, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(pidfd)
	mounts, err := procfs.Mounts("/proc/" + strconv.Itoa(r.InitPID))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := x.store.Judge(b.Context(), r, power.Init{PID: r.InitPID, PIDFD: pidfd}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(mounts)), "mounts")
}
