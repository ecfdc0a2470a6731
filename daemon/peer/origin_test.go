package peer

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What one container, one user or one unit has is one origin, whatever its uids, and the
// cgroups that it makes below its own; what others have is another.
func TestOrigins(t *testing.T) {
	const user = "/user.slice/user-1000.slice/user@1000.service/user.slice/"
	o := &origins{}
	o.learn("/default/web")
	o.learn("/pods/" + idA + "/libpod-" + idB)
	for _, tt := range []struct {
		path string
		uid  uint32
		want string
	}{
		{"/docker/" + idA, 0, "/docker/" + idA},
		{"/docker/" + idA, 1000, "/docker/" + idA},
		{"/docker/" + idA + "/child-7/x", 7, "/docker/" + idA},
		{"/docker/" + idA + "/" + idB, 7, "/docker/" + idA},
		{"/docker/" + idB, 0, "/docker/" + idB},
		{"/system.slice/docker-" + idA + ".scope/init", 5, "/system.slice/docker-" + idA + ".scope"},
		{"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-" + idA + ".scope", 0,
			"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-" + idA + ".scope"},
		{"/kubepods/burstable/podx/" + idA + "/x", 0, "/kubepods/burstable/podx/" + idA},
		{"/machine.slice/machine-libpod_pod_" + idA + ".slice/libpod-" + idB + ".scope/container", 0,
			"/machine.slice/machine-libpod_pod_" + idA + ".slice/libpod-" + idB + ".scope"},
		{user + "libpod-" + idA + ".scope/container", 100005, "user 1000"},
		{user + "libpod-" + idB + ".scope", 1000, "user 1000"},
		{user + "run-1.scope", 1000, "user 1000"},
		{"/user.slice/user-1000.slice/session-1.scope", 100005, "user 1000"},
		{"/user.slice/user-1000.slice/session-1.scope", 0, "/user.slice/user-1000.slice/session-1.scope"},
		{"/user.slice/user-1000.slice/docker-" + idA + ".scope", 0, "user 1000"},
		{"/user.slice/user-x.slice/y.scope", 7, "/user.slice/user-x.slice/y.scope"},
		{"/system.slice/web.service", 33, "/system.slice/web.service"},
		{"/system.slice/web.service/made/of/it", 34, "/system.slice/web.service"},
		{"/system.slice/system-getty.slice/getty@tty1.service", 0, "/system.slice/system-getty.slice/getty@tty1.service"},
		{"/default/db", 0, "/default/db"},
		{"/default/db/1/2/3", 0, "/default/db"},
		{"/one", 0, "/one"},
		{"/default/web/" + idA, 0, "/default/web"},
		{"/default/web/" + idB + "/x", 9, "/default/web"},
		{"/pods/" + idA + "/libpod-" + idB + "/below", 0, "/pods/" + idA + "/libpod-" + idB},
		{"/", 0, ""},
	} {
		if got := o.of(lines("", "/", "name=systemd", tt.path, "pids", "/"), tt.uid); got != tt.want {
			t.Errorf("%s as uid %d: %q, must be %q", tt.path, tt.uid, got, tt.want)
		}
	}
	if got := o.of(lines("pids", "/docker/"+idA), 0); got != "/docker/"+idA {
		t.Errorf("in another hierarchy alone: %q", got)
	}
	for n := range 3 * maxOrigins {
		o.learn(fmt.Sprint("/c/", n))
		o.add(&unix.Ucred{Pid: int32(n)}, "x", time.Now())
	}
	if len(o.containers) > maxOrigins || len(o.byPID) > maxOrigins {
		t.Errorf("%d containers and %d processes are remembered", len(o.containers), len(o.byPID))
	}
}

// A process is looked up once for a while, by pid and uid.
func TestOriginOfProcess(t *testing.T) {
	l := listen(t)
	w := newWorld(t)
	cmd, conn := startClient(t, l)
	pid := cmd.Process.Pid
	w.set(pid, inA)
	id := newIdentifier(t, w.options(declare()))
	ask := func() (name string, ok bool) {
		raw, err := conn.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) { name, ok = id.Origin(int(fd)) })
		return name, ok
	}
	if name, ok := ask(); !ok || name != "/docker/"+idA {
		t.Fatalf("origin %q, %t", name, ok)
	}
	moved := inA
	moved.cgroup = strings.ReplaceAll(inA.cgroup, idA, idB)
	w.set(pid, moved)
	known := id.origins.byPID[int32(pid)]
	known.until = time.Now().Add(time.Hour)
	id.origins.byPID[int32(pid)] = known
	if name, ok := ask(); !ok || name != "/docker/"+idA {
		t.Errorf("it was looked up again: %q", name)
	}
	known.uid = 4711
	id.origins.byPID[int32(pid)] = known
	if name, ok := ask(); !ok || name != "/docker/"+idA {
		t.Errorf("it was looked up again, as another uid: %q", name)
	}
	known.name = "uid 4711"
	id.origins.byPID[int32(pid)] = known
	if name, _ := ask(); name == known.name {
		t.Errorf("as another uid it is still %s", name)
	}
	clear(id.origins.byPID)
	if name, ok := ask(); !ok || name != "/docker/"+idB {
		t.Errorf("after a move %q, %t", name, ok)
	}
	clear(id.origins.byPID)
	cmd.Process.Kill()
	cmd.Wait()
	if name, ok := ask(); ok {
		t.Errorf("a process that has ended has the origin %q", name)
	}
}

func FuzzScopeOf(f *testing.F) {
	f.Add("/docker/" + idA + "/x")
	f.Add("/a.slice/b.service/c")
	f.Add("/default/web/1/2")
	f.Fuzz(func(t *testing.T, path string) {
		if checkPath(path) != nil {
			return
		}
		scope, container := scopeOf(path)
		if !strings.HasPrefix(path, scope) || scope == "" || len(path) > len(scope) && path[len(scope)] != '/' {
			t.Fatalf("%q of %q", scope, path)
		}
		// What is made below makes no other origin, once there is a container or unit.
		if below, _ := scopeOf(path + "/" + idA + "/x"); container && below != scope {
			t.Errorf("%q, and below it %q", scope, below)
		}
	})
}
