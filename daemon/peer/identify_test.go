package peer

import (
	"context"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/cima-project/cima/daemon/procfs"
)

// TestIdentify changes one fact at a time of a caller that would be identified.
func TestIdentify(t *testing.T) {
	type scene struct {
		caller, first fact
		record        Container
		empty         bool // no record at all
	}
	for name, test := range map[string]struct {
		change func(*scene)
		want   string // refusal
	}{
		"as it should be":         {func(s *scene) {}, ""},
		"no start time on record": {func(s *scene) { s.record.InitStart = 0 }, ""},
		"other record":            {func(s *scene) { s.empty = true }, "no root-owned record declares"},
		"another pid namespace":   {func(s *scene) { s.caller.nsPID = "b" }, "could not be looked at"}, // a fake has no parent
		"host's pid namespace":    {func(s *scene) { s.caller.nsPID = "host" }, "could not be looked at"},
		"no first process":        {func(s *scene) { s.record.InitPID = 0 }, "not recorded as started"},
		"first process is gone":   {func(s *scene) { s.record.InitPID = 1 << 22 }, "first process is not the one on record"},
		"first process is another": {func(s *scene) { s.record.InitStart = 78 },
			"first process is not the one on record"},
		"first process elsewhere": {func(s *scene) { s.first.cgroup = "0::/\n" }, "first process is not the one on record"},
		"first process in another": {func(s *scene) { s.first.cgroup = "0::/docker/" + idB + "\n" },
			"first process is not the one on record"},
		"first process contradictory": {func(s *scene) { s.first.cgroup = "4:memory:/docker/" + idB + "\n0::/docker/" + idA + "\n" },
			"first process is not the one on record"},
		"first process below": {func(s *scene) { s.first.cgroup = "0::/docker/" + idA + "/init.scope\n" }, ""},
		"first process on the host, record says not": {func(s *scene) { s.first.nsPID, s.caller.nsPID = "host", "host" },
			"first process is not the one on record"},
		"record says host, first process is not": {func(s *scene) { s.record.HostPID = true },
			"first process is not the one on record"},
		"host pid": {func(s *scene) { s.record.HostPID, s.first.nsPID, s.caller.nsPID = true, "host", "host" }, ""},
		"host pid, caller is not": {func(s *scene) { s.record.HostPID, s.first.nsPID = true, "host" },
			"pid namespace is not that container's"},
		"no cgroup directory": {func(s *scene) {
			s.caller.cgroup, s.first.cgroup = "3:pids:/docker/"+idA+"\n", "3:pids:/docker/"+idA+"\n"
		}, "first process is not the one on record"},
		"broken cgroup file":              {func(s *scene) { s.caller.cgroup = "0::/../docker\n" }, "root cgroup namespace"},
		"rootless, not the user's cgroup": {func(s *scene) { s.record.UID = 4242 }, "no root-owned record declares"},

		"host":                {func(s *scene) { s.caller = fact{cgroup: "0::/system.slice/x.service\n"} }, ""},
		"host next to conmon": {func(s *scene) { s.caller = fact{cgroup: "0::/machine.slice/libpod-conmon-" + idA + ".scope\n"} }, ""},
		"host, two pids":      {func(s *scene) { s.caller = fact{cgroup: "0::/x\n", pids: "9 1"} }, "2 NSpid entries"},
		"host, other namespace": {func(s *scene) { s.caller = fact{cgroup: "0::/x\n", nsPID: "b"} },
			"pid namespace is not the host's"},
		"host, other root": {func(s *scene) { s.caller = fact{cgroup: "0::/x\n", root: "b"} },
			"root directory is not the host's"},
		"host, no NSpid":       {func(s *scene) { s.caller = fact{cgroup: "0::/x\n", pids: " "} }, "could not be looked at"},
		"host, no cgroup file": {func(s *scene) { s.caller = fact{cgroup: ""} }, "make no sense"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			l := listen(t)
			caller, conn := startClient(t, l)
			init, _ := startClient(t, l)
			s := scene{caller: inA, first: inA, record: containerA(init.Process.Pid)}
			test.change(&s)
			w.set(caller.Process.Pid, s.caller)
			w.set(init.Process.Pid, s.first)
			w.mkdir("/unified" + s.record.CgroupPath)
			w.mkdir("/memory" + s.record.CgroupPath)
			r := declare(s.record, at(idB, "/docker/"+idB))
			if s.empty {
				r = declare(at(idB, "/docker/"+idB))
			}
			id := newIdentifier(t, w.options(r))
			if test.want != "" {
				refused(t, id, conn.UnixConn, test.want)
				return
			}
			c := identify(t, id, conn.UnixConn)
			if strings.HasPrefix(name, "host") && name != "host pid" {
				if c.Container != nil {
					t.Errorf("named %s, want the host", c.Container.ID)
				}
				return
			}
			if c.Container == nil || *c.Container != s.record || c.CgroupInode != inode(t, w.dir+"/cgroup/unified"+s.record.CgroupPath) {
				t.Errorf("%+v, cgroup inode %d", c.Container, c.CgroupInode)
			}
		})
	}
}

// The owner of the cgroups above a container's is known, and a user's record
// applies if they are that user's.
func TestIdentifyTellsCgroupOwner(t *testing.T) {
	if os.Getuid() != 0 {
		leaveOut(t, "chown needs root")
	}
	for _, test := range []struct{ chain, record uint32 }{{0, 0}, {1000, 0}, {1000, 1000}} {
		w := newWorld(t)
		caller, conn := startClient(t, listen(t))
		w.set(caller.Process.Pid, inA)
		for _, hierarchy := range []string{"/unified", "/memory"} {
			w.mkdir(hierarchy + "/docker/" + idA)
			w.must(os.Chown(w.dir+"/cgroup"+hierarchy+"/docker", int(test.chain), 0))
		}
		record := containerA(caller.Process.Pid)
		record.UID = test.record
		c := identify(t, newIdentifier(t, w.options(declare(record))), conn.UnixConn)
		if c.CgroupOwner != test.chain || c.Container.UID != test.record {
			t.Errorf("%+v: cgroup owner %d, container %+v", test, c.CgroupOwner, c.Container)
		}
	}
}

// A container that may write to its own cgroup gives it to whom it likes. It keeps its name
// and its payer; with cgroup v1, where the owner of a cgroup alone may move processes there,
// the owner counts.
func TestOwnCgroupGivenAway(t *testing.T) {
	if os.Getuid() != 0 {
		leaveOut(t, "chown needs root")
	}
	v1 := fact{cgroup: "4:memory:/docker/" + idA + "\n", nsPID: "a", pids: "9 1", root: "a", start: 77}
	for hierarchy, tt := range map[string]struct {
		process fact
		owner   uint32
		payer   string
	}{
		"/unified": {inA, 0, idA},
		"/memory":  {v1, 1000, "uid 1000"},
	} {
		w := newWorld(t)
		caller, conn := startClient(t, listen(t))
		w.set(caller.Process.Pid, tt.process)
		w.mkdir(hierarchy + "/docker/" + idA)
		w.must(os.Chown(w.dir+"/cgroup"+hierarchy+"/docker/"+idA, 1000, 0))
		record := containerA(caller.Process.Pid)
		id := newIdentifier(t, w.options(declare(record)))
		c := identify(t, id, conn.UnixConn)
		if c.CgroupOwner != tt.owner || c.Payer != tt.payer {
			t.Errorf("%s: cgroup owner %d, charged to %q", hierarchy, c.CgroupOwner, c.Payer)
		}
		if r, err := id.Running(t.Context(), record); err != nil || r.CgroupOwner != tt.owner {
			t.Errorf("%s: it runs, cgroup owner %d, %v", hierarchy, r.CgroupOwner, err)
		}
	}
}

func TestIdentifyTellsUnit(t *testing.T) {
	w := newWorld(t)
	caller, conn := startClient(t, listen(t))
	w.set(caller.Process.Pid, fact{cgroup: "1:name=systemd:/system.slice/web.service\n0::/\n"})
	if c := identify(t, newIdentifier(t, w.options(declare())), conn.UnixConn); c.Unit != "web.service" {
		t.Errorf("unit %q", c.Unit)
	}
}

// The caller ends after its /proc was opened: everything read from there could
// be another process's.
func TestIdentifyPollsAfterTheLastRead(t *testing.T) {
	w := newWorld(t)
	caller, conn := startClient(t, listen(t))
	w.set(caller.Process.Pid, fact{cgroup: "0::/x\n"})
	p := openTest(t, caller.Process.Pid)
	id := newIdentifier(t, w.options(recordsFunc(func(string) (Container, bool, error) {
		if procfs.Alive(p.pidfd) == nil {
			conn.tell(t, "exit")
			waitFor(t, "the end of the client", func() bool { return procfs.Alive(p.pidfd) != nil })
		}
		return Container{}, false, nil
	})))
	refused(t, id, conn.UnixConn, "has ended")
}

func benchmark(b *testing.B, id *Identifier, conn *client) {
	b.Run("Identify", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c, err := id.Identify(context.Background(), conn.UnixConn)
			if err != nil {
				b.Fatal(err)
			}
			c.Close()
		}
	})
	b.Run("Check", func(b *testing.B) {
		c := identify(b, id, conn.UnixConn)
		b.ReportAllocs()
		for b.Loop() {
			if err := c.Check(context.Background()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkHost(b *testing.B) {
	_, conn := startClient(b, listen(b))
	benchmark(b, newIdentifier(b, Options{}), conn)
}

// BenchmarkContainer identifies a caller in a docker container, with records in
// memory.
func BenchmarkContainer(b *testing.B) {
	d := newDocker(b)
	container, conn := d.start(nil)
	c, err := bundles{}.read(container)
	if err != nil {
		b.Fatal(err)
	}
	benchmark(b, newIdentifier(b, Options{Records: declare(c)}), conn)
}

// The daemon and the test are one process here, on the host.
func TestIdentifyHost(t *testing.T) {
	id := newIdentifier(t, Options{})
	conn := dial(t)
	c := identify(t, id, conn)
	if c.PID != os.Getpid() || c.UID != uint32(os.Getuid()) || c.GID != uint32(os.Getgid()) {
		t.Errorf("%d %d %d", c.PID, c.UID, c.GID)
	}
	if c.Container != nil || c.CgroupInode != 0 || c.CgroupOwner != 0 || c.PIDFD != id.kernel.peerPIDFD {
		t.Errorf("%+v", c)
	}
	if err := c.Check(context.Background()); err != nil || !c.Alive() {
		t.Errorf("check: %v, alive %t", err, c.Alive())
	}
	c.Close()
	c.Close()
	wantRefusal(t, c.Check(context.Background()), "closed")
	if c.Alive() {
		t.Error("alive after Close")
	}
}

func TestIdentifyWithoutPeerPIDFD(t *testing.T) {
	id := newIdentifier(t, Options{})
	id.kernel.peerPIDFD = false
	c := identify(t, id, dial(t))
	if c.PIDFD || c.PID != os.Getpid() {
		t.Errorf("pidfd %t, pid %d", c.PIDFD, c.PID)
	}
}

func TestIdentifyContext(t *testing.T) {
	id := newIdentifier(t, Options{})
	conn := dial(t)
	c := identify(t, id, conn)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := id.Identify(ctx, conn); err != context.Canceled {
		t.Errorf("identify: %v", err)
	}
	if err := c.Check(ctx); err != context.Canceled {
		t.Errorf("check: %v", err)
	}
	if err := c.Check(context.Background()); err != nil {
		t.Errorf("check after a canceled one: %v", err)
	}
}

// A peer that died after it connected: as a zombie, after it was reaped, and
// while another process holds the socket that it opened.
func TestDeadPeerIsRefused(t *testing.T) {
	for _, end := range []string{"exit", "handover"} {
		t.Run(end, func(t *testing.T) {
			id := newIdentifier(t, Options{})
			cmd, conn := startClient(t, listen(t))
			c := identify(t, id, conn.UnixConn)
			conn.tell(t, end)
			waitFor(t, "the end of the client", func() bool { return !c.Alive() })
			refused(t, id, conn.UnixConn, "has ended")
			wantRefusal(t, c.Check(context.Background()), "has ended")
			cmd.Wait()
			refused(t, id, conn.UnixConn, "has ended")
			wantRefusal(t, c.Check(context.Background()), "has ended")
			id.kernel.peerPIDFD = false
			refused(t, id, conn.UnixConn, "has ended")
		})
	}
}

// The pid of a peer that died is given to another process.
func TestReusedPIDIsRefused(t *testing.T) {
	if os.Getuid() != 0 {
		leaveOut(t, "choosing the next pid needs root")
	}
	id := newIdentifier(t, Options{})
	if !id.kernel.peerPIDFD {
		leaveOut(t, "the kernel has no SO_PEERPIDFD (Linux 6.5)")
	}
	s := listen(t)
	for range 50 {
		cmd, conn := startClient(t, s)
		c := identify(t, id, conn.UnixConn)
		conn.tell(t, "exit")
		cmd.Wait()
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(c.PID-1)), 0); err != nil {
			leaveOut(t, err.Error())
		}
		if other, _ := startClient(t, s); other.Process.Pid != c.PID {
			continue // another program took the pid first
		}
		refused(t, id, conn.UnixConn, "has ended")
		wantRefusal(t, c.Check(context.Background()), "has ended")

		// Without SO_PEERPIDFD the mistake can't be detected, and the assurance
		// must show that.
		id.kernel.peerPIDFD = false
		if c := identify(t, id, conn.UnixConn); c.PIDFD {
			t.Error("sure of a pid that may have been reused")
		}
		return
	}
	t.Fatal("no pid was given out again in 50 tries")
}
