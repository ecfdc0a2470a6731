package peer

import (
	"os"
	"strings"
	"testing"

	"github.com/cima-project/cima/daemon/procfs"
)

// TestIdentify changes one fact at a time of a caller that would be named.
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
		"broken cgroup file": {func(s *scene) { s.caller.cgroup = "0::/../docker\n" }, "root cgroup namespace"},
		"nobody's rootless":  {func(s *scene) { s.record.UID = 4242 }, "no root-owned record declares"},

		"host":               {func(s *scene) { s.caller = fact{cgroup: "0::/system.slice/x.service\n"} }, ""},
		"host beside conmon": {func(s *scene) { s.caller = fact{cgroup: "0::/machine.slice/libpod-conmon-" + idA + ".scope\n"} }, ""},
		"host, two pids":     {func(s *scene) { s.caller = fact{cgroup: "0::/x\n", pids: "9 1"} }, "2 NSpid entries"},
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
			if c.Container == nil || *c.Container != s.record || c.Instance != inode(t, w.dir+"/cgroup/unified"+s.record.CgroupPath) {
				t.Errorf("%+v, instance %d", c.Container, c.Instance)
			}
		})
	}
}

// Whose cgroups lead to a container's is told, and a user's record counts where
// they are that user's.
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

func TestIdentifyTellsUnit(t *testing.T) {
	w := newWorld(t)
	caller, conn := startClient(t, listen(t))
	w.set(caller.Process.Pid, fact{cgroup: "1:name=systemd:/system.slice/web.service\n0::/\n"})
	if c := identify(t, newIdentifier(t, w.options(declare())), conn.UnixConn); c.Unit != "web.service" {
		t.Errorf("unit %q", c.Unit)
	}
}

// The caller ends after its /proc was opened: all that is read could be false.
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
