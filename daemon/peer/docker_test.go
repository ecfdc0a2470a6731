package peer

import (
	"context"
	"strings"
	"testing"
)

// Known attacks, in real containers of a real docker.

func TestDockerContainer(t *testing.T) {
	d := newDocker(t)
	for name, options := range map[string][]string{
		"default":     nil,
		"other user":  {"--user", "1234", "--cap-drop", "ALL"},
		"read-only":   {"--read-only"},
		"host cgroup": {"--cgroupns=host"},
		"host pid":    {"--pid=host"},
	} {
		t.Run(name, func(t *testing.T) {
			d := docker{t, d.engine, d.id, listen(t)}
			container, conn := d.start(options)
			c := d.named(conn, container)
			want := uint32(0)
			if name == "other user" {
				want = 1234
			}
			if c.UID != want {
				t.Errorf("uid %d, want %d", c.UID, want)
			}
			if c.Container.HostPID != (name == "host pid") || c.Container.Runtime != "docker" {
				t.Errorf("%+v", *c.Container)
			}
		})
	}
}

func TestDockerExecIsItsContainer(t *testing.T) {
	d := newDocker(t)
	container, conn := d.start(nil)
	first := d.named(conn, container)
	d.command("exec", "-d", "--user", "77", container, "/client", "/run/cima/s")
	second := d.named(d.accept(t), container)
	if second.UID != 77 || second.PID == first.PID || second.CgroupInode != first.CgroupInode {
		t.Errorf("exec'd: %+v, first: %+v", second, first)
	}
}

func TestDockerNestedPIDNamespaceIsItsContainer(t *testing.T) {
	d := newDocker(t)
	container, conn := d.start([]string{"--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined"}, "nest")
	c := d.named(conn, container)
	if c.PID == c.Container.InitPID {
		t.Error("the client did not nest")
	}
}

func TestDockerJoinedPIDNamespaceIsItself(t *testing.T) {
	d := newDocker(t)
	host, conn := d.start(nil)
	d.named(conn, host)
	guest, conn := d.start([]string{"--pid", "container:" + host})
	d.named(conn, guest)
}

func TestDockerRestartIsAnotherInstance(t *testing.T) {
	d := newDocker(t)
	container, conn := d.start(nil)
	before := d.named(conn, container)
	d.command("restart", "-t", "0", container)
	after := d.named(d.accept(t), container)
	if before.CgroupInode == after.CgroupInode {
		t.Errorf("cgroup inode %d before and after", before.CgroupInode)
	}
	wantRefusal(t, before.Check(context.Background()), "has ended")
}

func TestDockerMoveIntoAnotherIsRefused(t *testing.T) {
	d := newDocker(t)
	victim, _ := d.start(nil)
	attacker, conn := d.start(ownCgroups)
	caller := d.named(conn, attacker)

	conn.do(t, "join * %s", d.cgroupOf(victim))
	wantRefusal(t, caller.Check(context.Background()), "its cgroups changed")
	refused(t, d.id, conn.UnixConn, "pid namespace is not that container's")

	conn.tell(t, "again")
	conn = d.accept(t)
	refused(t, d.id, conn.UnixConn, "pid namespace is not that container's")

	// A process that moves to the root cgroup is not identified as the host,
	// and back in its cgroup it is identified as before.
	conn.do(t, "join * /")
	refused(t, d.id, conn.UnixConn, "NSpid")
	conn.do(t, "join * %s", d.cgroupOf(attacker))
	d.named(conn, attacker)
	wantRefusal(t, caller.Check(context.Background()), "its cgroups changed")
}

func TestDockerOneHierarchyMovedIsRefused(t *testing.T) {
	d := newDocker(t)
	if d.id.kernel.cgroup == "v2" {
		t.Skip("does not apply: there is one hierarchy only (the forms are in TestMatch)")
	}
	victim, _ := d.start(nil)
	attacker, conn := d.start(ownCgroups)
	caller := d.named(conn, attacker)
	conn.do(t, "join memory %s", d.cgroupOf(victim))
	refused(t, d.id, conn.UnixConn, "name different containers")
	wantRefusal(t, caller.Check(context.Background()), "its cgroups changed")
}

func TestDockerRenamedCgroupIsRefused(t *testing.T) {
	d := newDocker(t)
	if d.id.kernel.cgroup == "v2" {
		t.Skip("does not apply: cgroup v2 has no rename")
	}
	victim, victimConn := d.start(nil)
	victimCaller := d.named(victimConn, victim)
	attacker, conn := d.start(ownCgroups)
	d.named(conn, attacker)
	v, a := d.cgroupOf(victim), d.cgroupOf(attacker)
	for _, hierarchy := range d.hierarchies() {
		rename(t, hierarchy, v, v+".gone")
		rename(t, hierarchy, a, v)
	}
	t.Cleanup(func() {
		for _, hierarchy := range d.hierarchies() {
			rename(t, hierarchy, v, a)
			rename(t, hierarchy, v+".gone", v)
		}
	})
	// By renaming, the attacker takes the victim's place in every hierarchy
	// that allows it, and, having moved in the unified hierarchy too, in all of
	// them.
	if d.id.kernel.cgroup == "hybrid" {
		refused(t, d.id, conn.UnixConn, "name different containers")
		conn.do(t, "join unified %s", v)
	}
	refused(t, d.id, conn.UnixConn, "pid namespace is not that container's")
	wantRefusal(t, victimCaller.Check(context.Background()), "its cgroups changed")
}

func TestDockerCgroupParentOfAnotherIsItself(t *testing.T) {
	d := newDocker(t)
	victim, _ := d.start(nil)
	parent := d.cgroupOf(victim)
	if strings.HasSuffix(parent, ".scope") {
		t.Skip("does not apply: with the systemd driver a parent is a slice (the form is in TestMatch)")
	}
	attacker, conn := d.start([]string{"--cgroup-parent", parent})
	c := d.named(conn, attacker)
	if want := parent + "/" + attacker; c.Container.CgroupPath != want {
		t.Errorf("declared %s, want %s", c.Container.CgroupPath, want)
	}
}

func TestDockerForgedIDBelowIsRefused(t *testing.T) {
	d := newDocker(t)
	victim, _ := d.start(nil)
	attacker, conn := d.start(ownCgroups)
	own := d.cgroupOf(attacker)
	hierarchy := "memory"
	for _, forged := range []string{victim, "docker-" + victim + ".scope", strings.Repeat("ab", 32)} {
		conn.do(t, "mkdir %s %s/%s", hierarchy, own, forged)
		conn.do(t, "join %s %s/%s", hierarchy, own, forged)
		refused(t, d.id, conn.UnixConn, "no root-owned record declares")
	}
	// A cgroup that it makes without an id in the name doesn't matter.
	conn.do(t, "mkdir %s %s/workers", hierarchy, own)
	conn.do(t, "join %s %s/workers", hierarchy, own)
	d.named(conn, attacker)
}

func TestDockerUnknownContainerIsRefused(t *testing.T) {
	d := newDocker(t)
	d.id = newIdentifier(t, Options{}) // records without a container
	_, conn := d.start(nil)
	refused(t, d.id, conn.UnixConn, "no root-owned record declares")
}

func TestDockerEndedContainerIsRefused(t *testing.T) {
	d := newDocker(t)
	container, conn := d.start(nil)
	caller := d.named(conn, container)
	d.command("kill", container)
	d.command("wait", container)
	wantRefusal(t, caller.Check(context.Background()), "has ended")
	refused(t, d.id, conn.UnixConn, "has ended")
}
