package containers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/daemontest"
	"github.com/cima-project/cima/daemon/engines"
	"github.com/cima-project/cima/daemon/fifo"
	"github.com/cima-project/cima/daemon/gate"
	"github.com/cima-project/cima/daemon/launch/launchtest"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/daemon/ledger/ledgertest"
	"github.com/cima-project/cima/daemon/power"
	"github.com/cima-project/cima/daemon/procfs"
	"github.com/cima-project/cima/daemon/records"
	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// held is a process that is about to be a runtime.
type held struct {
	command gate.Command
	names   string // the container of its working directory
}

func (h held) Command() gate.Command          { return h.command }
func (h held) Names(_ string, id string) bool { return id == h.names }

func ordered(words ...string) held {
	return held{command: gate.Command{Name: words[0], Arguments: words[1:]}}
}

// starts is a gate without marks, and a host with bundles in which it looks.
type starts struct {
	*testing.T
	dir      string
	m        *Manager
	g        *Gate
	register *hookedRegister
}

// hookedRegister calls a hook at each extend.
type hookedRegister struct {
	ledgertest.Register
	mu   sync.Mutex
	hook func()
}

func (r *hookedRegister) Extend(ctx context.Context, d hw.Digest) error {
	r.mu.Lock()
	hook := r.hook
	r.mu.Unlock()
	if hook != nil {
		hook()
	}
	return r.Register.Extend(ctx, d)
}

func newStarts(t *testing.T) *starts {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("left out: needs root to read root-owned records")
	}
	s := &starts{T: t, dir: launchtest.NewTree(t).Dir, register: &hookedRegister{}}
	store := records.New(records.Options{
		Places: []records.Place{{Runtime: "docker", Config: s.dir + "/task/{namespace}/{id}/config.json", States: []string{s.dir + "/runc/{namespace}/{id}/state.json"}}},
		Users:  func() map[uint32]string { return nil },
	})
	c := config.Default()
	var err error
	s.m, err = New(Options{
		Ledger:  ledgertest.Open(t, func(o *ledger.Options) { o.Register = s.register }),
		Records: func() *records.Store { return store }, Config: func() *config.Config { return &c },
		Log: slog.New(slog.DiscardHandler), Dir: t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.m.Close)
	s.open()
	return s
}

// open makes the gate anew, as a daemon that was restarted does.
func (s *starts) open() {
	s.g = newGate(s.m)
	s.Cleanup(s.g.stop)
	s.g.skipPresent(s.Context())
	close(s.g.ready)
}

func (s *starts) write(name, text string) {
	s.Helper()
	name = filepath.Join(s.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
		s.Fatal(err)
	}
}

// bundle writes the bundle of a container of docker's.
func (s *starts) bundle(id string, changes ...launchtest.Change) { s.bundleIn("moby", id, changes...) }

func (s *starts) bundleIn(namespace, id string, changes ...launchtest.Change) {
	s.Helper()
	c := launchtest.Config(s, "docker")
	launchtest.Set("linux.cgroupsPath", "/"+namespace+"/"+id)(c)
	launchtest.Set("mounts", []any{})(c) // their sources are not there
	for _, change := range changes {
		change(c)
	}
	s.write("task/"+namespace+"/"+id+"/config.json", string(launchtest.Encode(s, c)))
}

// made is a container that is made: it has a first process.
type made struct {
	*starts
	id    string
	fifo  string
	pid   int
	input io.WriteCloser
}

// make makes a container, as the runtime's create does.
func (s *starts) make(id string) *made { return s.makeIn("moby", id) }

func (s *starts) makeIn(namespace, id string) *made {
	s.Helper()
	state := "runc/" + namespace + "/" + id + "/"
	c := &made{starts: s, id: id, fifo: filepath.Join(s.dir, state, fifo.Name)}
	if err := errors.Join(os.MkdirAll(filepath.Dir(c.fifo), 0o755), unix.Mkfifo(c.fifo, 0o600)); err != nil {
		s.Fatal(err)
	}
	fd, err := unix.Open(c.fifo, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		s.Fatal(err)
	}
	descriptor := os.NewFile(uintptr(fd), c.fifo)
	defer descriptor.Close()
	process := exec.Command("/proc/self/exe", "await")
	process.ExtraFiles = []*os.File{descriptor}
	if c.input, err = process.StdinPipe(); err != nil {
		s.Fatal(err)
	}
	if err := process.Start(); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		process.Process.Kill()
		process.Wait()
	})
	c.pid = process.Process.Pid
	started, err := procfs.Started(c.pid)
	if err != nil {
		s.Fatal(err)
	}
	s.write(state+"state.json", fmt.Sprintf(`{"init_process_pid":%d,"init_process_start":%d,"cgroup_paths":{"":"/sys/fs/cgroup/%s/%s"}}`, c.pid, started, namespace, id))
	return c
}

// ready lets the first process go into its exec FIFO.
func (c *made) ready() *made {
	c.Helper()
	c.input.Write([]byte("1"))
	daemontest.Eventually(c, "the first process waits", func() bool {
		init, err := openInit(c.record())
		if err != nil {
			return false
		}
		defer init.close()
		return init.waits()
	})
	return c
}

// released lets the first process run, as the runtime's start does.
func (c *made) released() {
	fd, err := unix.Open(c.fifo, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		c.Error(err)
		return
	}
	daemontest.Eventually(c, "the first process runs", func() bool {
		call, err := procfs.BlockedIn(c.pid, c.pid)
		return err != nil || call.Number != unix.SYS_OPENAT
	})
	unix.Close(fd)
	os.Remove(c.fifo)
}

func (c *made) record() records.Record { return c.starts.record(c.id) }

func (s *starts) record(id string) records.Record {
	s.Helper()
	list, err := s.m.Records().List(context.Background())
	at := slices.IndexFunc(list, func(rec records.Record) bool { return rec.Name == id })
	if err != nil || at < 0 {
		s.Fatal("no record of", id, err)
	}
	return list[at]
}

// isGated reports whether START confirmed a container.
func (s *starts) isGated(id string) bool {
	s.Helper()
	at, err := s.m.Ledger.Snapshot(id)
	if err != nil {
		s.Fatal(err)
	}
	return at.Owner.Instance != "" && s.m.confirmed.IsJudged(id, at.Owner.Instance)
}

// operations are those of a container's events, and of the public ones.
func (s *starts) operations(id string) string {
	s.Helper()
	var all []string
	for _, e := range ledgertest.Events(s, s.m.Ledger, id, logs.OpPower, logs.OpLaunch, logs.OpMounted, logs.OpMissed) {
		all = append(all, e.Operation)
	}
	return strings.Join(all, " ")
}

func (s *starts) want(what string, err, want error) {
	s.Helper()
	if !errors.Is(err, want) || want == nil && err != nil {
		s.Errorf("%s: %v, want %v", what, err, want)
	}
}

var a, b = launchtest.ID(1), launchtest.ID(2)

// A container is measured when it is made, judged when its first process waits to be
// started, and gated from then on.
func TestJudgedAtStart(t *testing.T) {
	s := newStarts(t)
	s.bundle(a)
	s.want("create", s.g.decide(t.Context(), ordered("create", "--bundle", "/b", a)), nil)
	if got := s.operations(a); got != "launch" || s.isGated(a) {
		t.Errorf("when it is made: %s, gated %t", got, s.isGated(a))
	}
	c := s.make(a)
	s.want("state", s.g.decide(t.Context(), ordered("state", a)), nil)
	s.want("start, while the runtime sets it up", s.g.decide(t.Context(), ordered("start", a)), gate.ErrAgain)
	if s.isGated(a) {
		t.Error("gated before it was judged")
	}
	c.ready()
	s.want("kill", s.g.decide(t.Context(), ordered("kill", a)), nil)
	if s.isGated(a) {
		t.Error("another command judged it")
	}
	s.want("start", s.g.decide(t.Context(), ordered("start", a)), nil)
	// The first process is in the host's namespaces.
	if got := s.operations(a); got != "launch power mounted" || !s.isGated(a) {
		t.Errorf("at START: %s, gated %t", got, s.isGated(a))
	}
	s.want("start again", s.g.decide(t.Context(), ordered("start", a)), nil)
	if got := s.operations(a); got != "launch power mounted" { // its mounts are the host's
		t.Errorf("judged twice: %s", got)
	}
}

// A large entrypoint takes longer than a runtime is held: N5 of the attacks. What is made
// goes on in time and is not missed; START waits until the launch is logged. Where no START
// follows, the runtime is missed.
func TestMeasuredUntilStart(t *testing.T) {
	s := newStarts(t)
	s.bundle(a)
	s.bundle(b)
	measured := make(chan struct{})
	s.register.mu.Lock()
	s.register.hook = func() { <-measured }
	s.register.mu.Unlock()
	short := func() context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		t.Cleanup(cancel)
		return ctx
	}
	s.want("create", s.g.decide(short(), ordered("create", a)), nil)
	s.want("run", s.g.decide(short(), ordered("run", b)), gate.ErrDeadline)
	c := s.make(a)
	c.ready()
	s.want("start while it is measured", s.g.decide(t.Context(), ordered("start", a)), gate.ErrAgain)
	s.want("start of one that is not known, meanwhile", s.g.decide(t.Context(), held{}), nil)
	rec := s.record(a)
	if !s.m.awaited.holds(rec.StartKey()) {
		t.Error("another may log it meanwhile")
	}
	// An engine that reports its end says nothing about power that isn't known.
	s.want("its end", newExits(s.m).logGone(t.Context(), engines.Event{ID: a, Runtime: "docker", At: time.Now()}), errMeasuring)
	close(measured)
	daemontest.Eventually(t, "START goes on", func() bool {
		err := s.g.decide(t.Context(), ordered("start", a))
		if err != nil && !errors.Is(err, gate.ErrAgain) {
			t.Fatal(err)
		}
		return err == nil
	})
	if got := s.operations(a); strings.Count(got, "launch") != 1 || !s.isGated(a) || s.m.awaited.holds(rec.StartKey()) {
		t.Errorf("%s, gated %t", got, s.isGated(a))
	}
}

// Nobody waits for another's first process: N6 of the attacks.
func TestNobodyElseWaits(t *testing.T) {
	s := newStarts(t)
	s.bundle(a)
	s.bundle(b)
	s.want("create", s.g.decide(t.Context(), ordered("create", a)), nil)
	s.want("create", s.g.decide(t.Context(), ordered("create", b)), nil)
	s.make(a) // its first process hangs
	s.make(b).ready()
	s.want("start of the one that hangs", s.g.decide(t.Context(), ordered("start", a)), gate.ErrAgain)
	s.want("start of the other", s.g.decide(t.Context(), ordered("start", b)), nil)
	if s.isGated(a) || !s.isGated(b) {
		t.Errorf("gated: %t, %t", s.isGated(a), s.isGated(b))
	}
	// Nor for another's measuring.
	s.bundle(launchtest.ID(3), launchtest.Set("root.path", "/proc")) // a mount: it is complete
	s.g.bundles[s.record(launchtest.ID(3)).StartKey()] = &bundle{launch: underWay}
	for what, h := range map[string]heldRuntime{"exec": ordered("exec", a), "delete": ordered("delete", "-f", a), "another's start": ordered("start", "none"), "init": held{gate.Command{Name: "init"}, a}} {
		s.want(what, s.g.decide(t.Context(), h), nil)
	}
	s.g.bundles[s.record(launchtest.ID(3)).StartKey()].launch = done
	s.want("nothing known but where it was started", s.g.decide(t.Context(), held{names: a}), gate.ErrAgain)
}

// What a runtime is told besides the bundle is announced, and stays with the start.
func TestStartOfStrangeCommand(t *testing.T) {
	s := newStarts(t)
	a, b := launchtest.ID(1), launchtest.ID(2)
	s.bundle(a)
	s.bundle(b)
	strange := ordered("create", a)
	strange.command.Strange = true
	s.want("create", s.g.decide(t.Context(), strange), nil)
	s.want("create", s.g.decide(t.Context(), ordered("create", b)), nil)
	for id, want := range map[string]bool{a: true, b: false} {
		s.make(id).ready()
		s.want("start", s.g.decide(t.Context(), ordered("start", id)), nil)
		rec := s.record(id)
		classes, known := s.m.confirmed.Power(rec.Name, rec.InstanceID(0))
		if !known || slices.Contains(classes, "runtime-option") != want {
			t.Errorf("classes %q, known %t: runtime-option must be there: %t", classes, known, want)
		}
	}
}

// Whoever can use containerd may make a container with the id of another's, and leave it
// there: the other's start neither waits for it, nor passes for its. The one that docker
// made keeps its id, and the other is refused.
func TestStartNextToOneWithTheSameID(t *testing.T) {
	s := newStarts(t)
	of := func(namespace string, words ...string) held {
		h := ordered(words...)
		h.command.Root = s.dir + "/runc/" + namespace
		return h
	}
	for _, namespace := range []string{"default", "moby"} {
		s.bundleIn(namespace, a)
		s.want("create", s.g.decide(t.Context(), of(namespace, "create", "--bundle", filepath.Join(s.dir, "task", namespace, a), a)), nil)
	}
	s.makeIn("default", a) // its first process hangs
	s.make(a).ready()
	s.want("start", s.g.decide(t.Context(), of("moby", "start", a)), nil)
	s.want("start, looked at again", s.g.decide(t.Context(), of("moby", "start", a)), nil)
	if !s.isGated(a) || s.isGated("default:"+a) {
		t.Errorf("gated: %t, %t", s.isGated(a), s.isGated("default:"+a))
	}
	s.want("start of the other", s.g.decide(t.Context(), of("default", "start", a)), records.ErrTwice)
}

// A runtime of whose command nothing is known judges all that are ready.
func TestUnknownCommandJudgesWhatIsReady(t *testing.T) {
	s := newStarts(t)
	s.bundle(a)
	s.want("create", s.g.decide(t.Context(), ordered("create", a)), nil)
	s.make(a).ready()
	s.want("nothing known", s.g.decide(t.Context(), held{}), nil)
	if !s.isGated(a) {
		t.Error("not judged")
	}
	s.bundle(b)
	s.make(b).ready()
	s.want("a start of a container that is not known", s.g.decide(t.Context(), ordered("start", "none")), nil)
	if !s.isGated(b) {
		t.Error("not judged")
	}
}

// A start that can't be judged fails, and only this one: nothing is taken from others.
func TestFailedStart(t *testing.T) {
	s := newStarts(t)
	s.bundle(a)
	s.bundle(b)
	for _, id := range []string{a, b} {
		s.want("create", s.g.decide(t.Context(), ordered("create", id)), nil)
	}
	s.want("start without a first process", s.g.decide(t.Context(), ordered("start", a)), errNoInit)
	first := s.make(a).ready()
	s.make(b).ready()
	s.register.Fail(errors.New("the register fails"))
	if err := s.g.decide(t.Context(), ordered("start", a)); err == nil || errors.Is(err, gate.ErrAgain) || s.isGated(a) {
		t.Errorf("a power that can't be logged: %v, gated %t", err, s.isGated(a))
	}
	s.register.Fail(nil)
	s.want("start of the other", s.g.decide(t.Context(), ordered("start", b)), nil)
	if s.isGated(a) || !s.isGated(b) {
		t.Errorf("gated: %t, %t", s.isGated(a), s.isGated(b))
	}
	first.released()
	s.want("start of what runs", s.g.decide(t.Context(), ordered("start", a)), errNoFIFO)
	if s.isGated(a) {
		t.Error("gated, and it runs already")
	}
	s.g.missed(nil, gate.ErrOverflow)
	if !s.isGated(b) {
		t.Error("a runtime that was missed takes it from another")
	}
}

// The first process is let go while it is judged: what is logged then may be late.
func TestLetGoWhileJudged(t *testing.T) {
	s := newStarts(t)
	s.bundle(a)
	s.want("create", s.g.decide(t.Context(), ordered("create", a)), nil)
	c := s.make(a).ready()
	s.register.hook = sync.OnceFunc(c.released)
	s.want("start", s.g.decide(t.Context(), ordered("start", a)), gate.ErrLetGo)
	if s.isGated(a) {
		t.Error("gated")
	}
}

// Whose first process has ended needs no judging, and holds nobody.
func TestEndedBeforeStart(t *testing.T) {
	s := newStarts(t)
	s.bundle(a)
	s.want("create", s.g.decide(t.Context(), ordered("create", a)), nil)
	c := s.make(a)
	c.input.Close()
	daemontest.Eventually(t, "it has ended", func() bool {
		err := s.g.decide(t.Context(), ordered("start", a))
		return err == nil
	})
	if s.isGated(a) {
		t.Error("gated")
	}
}

// What was not measured when it was made is measured at START: nothing of it has run.
// The daemon may have been restarted in between, before or after the launch was logged.
func TestStartAfterRestart(t *testing.T) {
	s := newStarts(t)
	s.bundle(a)
	s.bundle(b)
	s.want("create", s.g.decide(t.Context(), ordered("create", a)), nil)
	s.open()
	for _, id := range []string{a, b} {
		s.make(id).ready()
		s.want("start", s.g.decide(t.Context(), ordered("start", id)), nil)
		if got := s.operations(id); !strings.Contains(got, "launch") || strings.Count(got, "launch") != 1 || !s.isGated(id) {
			t.Errorf("%s: %s, gated %t", id[60:], got, s.isGated(id))
		}
	}
	s.open()
	s.want("start once more", s.g.decide(t.Context(), ordered("start", a)), nil)
	if got := s.operations(a); got != "launch power mounted" { // its mounts are the host's
		t.Errorf("judged twice: %s", got)
	}
}

// What is logged as observed stays observed, and is judged all the same.
func TestObservedStaysObserved(t *testing.T) {
	s := newStarts(t)
	s.bundle(a)
	c := s.make(a).ready()
	rec := c.record()
	if err := s.m.appendLaunch(t.Context(), a, rec.InstanceID(7), rec, rec.Launch); err != nil {
		t.Fatal(err)
	}
	s.want("start", s.g.decide(t.Context(), ordered("start", a)), nil)
	if got := s.operations(a); got != "launch power" || s.isGated(a) {
		t.Errorf("%s, gated %t", got, s.isGated(a))
	}
}

// Of two runtimes that would start one container one judges, and the other waits.
func TestJudgedOnce(t *testing.T) {
	s := newStarts(t)
	s.bundle(a)
	s.want("create", s.g.decide(t.Context(), ordered("create", a)), nil)
	s.make(a).ready()
	var other, unknown error
	s.register.hook = sync.OnceFunc(func() {
		other, unknown = s.g.decide(context.Background(), ordered("start", a)), s.g.decide(context.Background(), held{})
	})
	s.want("start", s.g.decide(t.Context(), ordered("start", a)), nil)
	s.want("another start meanwhile", other, gate.ErrAgain)
	s.want("another runtime meanwhile", unknown, nil)
	if got := s.operations(a); got != "launch power mounted" || !s.isGated(a) {
		t.Errorf("%s, gated %t", got, s.isGated(a))
	}
}

// A container that is made and not started has no facts, and nobody claims its launch.
func TestPending(t *testing.T) {
	s := newStarts(t)
	s.bundle(a)
	s.want("create", s.g.decide(t.Context(), ordered("create", a)), nil)
	c := s.make(a)
	rec := c.record()
	i := s.m.Use(PeerContainer(rec), 7, 0)
	defer s.m.Release(i)
	notReady := func(what string) {
		t.Helper()
		_, err := s.m.Facts(t.Context(), i, func(context.Context) error { return nil })
		var wire *rpc.Error
		if !errors.As(err, &wire) || wire.Code != rpc.CodeNotReady || !s.m.isPending(i, rec) {
			t.Errorf("%s: %v", what, err)
		}
	}
	notReady("while the runtime sets it up")
	c.ready()
	notReady("while it waits")
	s.want("start", s.g.decide(t.Context(), ordered("start", a)), nil)
	if s.m.isPending(i, rec) {
		t.Error("pending once it is judged")
	}
	if mine, gated := s.m.isLaunchOf(rec.InstanceID(0), rec, i); !mine || !gated {
		t.Errorf("once it is judged: its own %t, gated %t", mine, gated)
	}
	s.bundle(b)
	left := s.make(b)
	rec = left.record()
	other := s.m.Use(PeerContainer(rec), 8, 0)
	defer s.m.Release(other)
	if !s.m.isPending(other, rec) {
		t.Error("not pending while the runtime sets it up")
	}
	left.ready().released()
	if err := unix.Mkfifo(left.fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	daemontest.Eventually(t, "a FIFO that was left says nothing", func() bool { return !s.m.isPending(other, rec) })
}

// A container that started unjudged is announced, once for all.
func TestUnseenStart(t *testing.T) {
	s := newStarts(t)
	classes := func() (all []string) {
		for _, e := range ledgertest.Events(t, s.m.Ledger, "", logs.OpPower) {
			var body logs.PowerBody
			if err := json.Unmarshal(e.Body(), &body); err != nil {
				t.Fatal(err)
			}
			all = append(all, fmt.Sprint(body.Classes))
		}
		return all
	}
	if err := s.m.announceUnseen(t.Context(), "1000/c", records.Record{ID: "c", UID: 1000}); err != nil || len(classes()) != 0 {
		t.Errorf("a rootless engine's container: %v, %q", err, classes())
	}
	for _, id := range []string{a, b} {
		s.bundle(id)
		s.want("create", s.g.decide(t.Context(), ordered("create", id)), nil)
		c := s.make(id).ready()
		c.released()
		if err := s.m.announceUnseen(t.Context(), id, c.record()); err != nil {
			t.Fatal(err)
		}
	}
	got := classes()
	if len(got) != 2 || got[0] != "["+power.UnseenStart+"]" || !strings.Contains(got[1], "namespace:") {
		t.Errorf("announced: %q", got)
	}
}

// A container whose first process ends before it is started, as where its program isn't
// there, has run nothing: it isn't announced.
func TestNeverStarted(t *testing.T) {
	s := newStarts(t)
	s.bundle(a)
	s.want("create", s.g.decide(t.Context(), ordered("create", a)), nil)
	c := s.make(a)
	since, long := time.Time{}, time.Now().Add(-time.Hour)
	if !isUnsettled(c.record(), &since) || since.IsZero() {
		t.Error("while the runtime sets it up")
	}
	if isUnsettled(c.record(), &long) {
		t.Error("while it runs, and the FIFO stays")
	}
	if err := unix.Kill(c.pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	daemontest.Eventually(t, "the first process has ended", func() bool { return isGone(c.record()) })
	rec := c.record()
	i := s.m.Use(PeerContainer(rec), 7, 0)
	defer s.m.Release(i)
	wantNothing := func(when string) {
		t.Helper()
		_, err := s.m.Facts(t.Context(), i, func(context.Context) error { return nil })
		var wire *rpc.Error
		if !errors.As(err, &wire) || wire.Code != rpc.CodeNotReady {
			t.Errorf("%s: its facts: %v", when, err)
		}
		if all := ledgertest.Events(t, s.m.Ledger, "", logs.OpPower); len(all) != 0 {
			t.Errorf("%s: announced: %d events", when, len(all))
		}
	}
	wantNothing("while the FIFO is there")
	i.first, i.unsettled = long, long
	wantNothing("while the FIFO is there, later")
	i.unsettled = time.Time{}
	if err := os.Remove(c.fifo); err != nil {
		t.Fatal(err)
	}
	wantNothing("while the runtime removes what it noted")
	if isUnsettled(rec, &long) {
		t.Error("when the record stayed without its FIFO")
	}
}

func TestFailed(t *testing.T) {
	one, two := errors.New("one"), errors.New("two")
	if failed(nil) != nil || failed([]error{nil, nil}) != nil {
		t.Error("nothing failed")
	}
	if err := failed([]error{nil, gate.ErrAgain, nil}); err != gate.ErrAgain {
		t.Error(err)
	}
	if err := failed([]error{one, fmt.Errorf("x: %w", gate.ErrAgain), two}); errors.Is(err, gate.ErrAgain) || !errors.Is(err, one) || !errors.Is(err, two) {
		t.Error(err)
	}
}
