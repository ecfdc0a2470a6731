package peer

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/cima-project/cima/daemon/trust"
)

// Every uid of a user's range is that user's.
func TestUsersOfUIDs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "subuid")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("1000:100000:65536\nnobody:165536:10\n# comment\n1001:x:1\nno-such-user-here:300000:10\n1002:4294967295:4294967295\n1003:0:1000000\n")
	u := users{&trust.SubUIDs{File: file}}
	for _, tt := range []struct {
		uid    uint32
		cgroup string
		want   uint32
	}{
		{0, "/user.slice/user-1000.slice/session-1.scope", 0},
		{1000, "/user.slice/user-1000.slice/session-1.scope", 1000},
		{100007, "/user.slice/user-1000.slice/user@1000.service/app.slice/x", 1000},
		{1007, "/user.slice/user-1000.slice", 1000}, // su
		{100000, "", 1000},
		{165535, "/", 1000},
		{165536, "/system.slice/x.service", 65534},
		{165546, "", 165546},
		{300001, "", 300001},
		{4294967295, "", 1002},
		{7, "", 7},
		{100007, "/system.slice/user.slice/user-5.slice", 1000},
		{7, "/user.slice/user-x.slice", 7},
		{7, "/user.slice/user-5", 7},
	} {
		if got := u.of(tt.uid, tt.cgroup); got != tt.want {
			t.Errorf("uid %d in %q is %d's, want %d", tt.uid, tt.cgroup, got, tt.want)
		}
	}
	write("1001:100000:65536\n1000:200000:1\n")
	if got := u.of(100000, ""); got != 1001 {
		t.Errorf("after a change %d", got)
	}
	os.Remove(file)
	if got := u.of(100000, ""); got != 100000 {
		t.Errorf("without the file %d", got)
	}
}

// Processes of a user namespace with a user's subordinate uids connect with uids of their
// own, and are that one user.
func TestOneUserOfManyUIDs(t *testing.T) {
	if os.Getuid() != 0 {
		leaveOut(t, "mapping uids needs root")
	}
	file := filepath.Join(t.TempDir(), "subuid")
	if err := os.WriteFile(file, []byte("1000:100000:65536\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	o := w.options(declare())
	o.procRoot, o.cgroupRoot, o.subUIDs = "", "", file
	id := newIdentifier(t, o)
	if err := os.Chmod(filepath.Dir(clientPath), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, uid := range []uint32{0, 1, 1000, 65535} {
		s := listen(t)
		cmd := exec.Command(clientPath, s.path)
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{HostID: 100000, Size: 65536}}, GidMappings: []syscall.SysProcIDMap{{HostID: 100000, Size: 65536}},
			Credential: &syscall.Credential{Uid: uid, Gid: uid},
		}
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		c := identify(t, id, s.accept(t).UnixConn)
		if c.UID != 100000+uid || c.Payer != "uid 1000" {
			t.Errorf("uid %d inside: uid %d is charged to %q", uid, c.UID, c.Payer)
		}
		cmd.Process.Kill()
		cmd.Wait()
	}
}

// Whatever uids, records and cgroups one user or one container has, it is one payer.
func TestPayers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "subuid")
	if err := os.WriteFile(file, []byte("1000:100000:65536\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	u := users{&trust.SubUIDs{File: file}}
	x := Container{ID: "x", Name: "x"}
	of := func(uid uint32) *Container { c := x; c.UID = uid; return &c }
	for _, tt := range []struct {
		caller *Caller
		want   string
	}{
		{&Caller{UID: 100007, User: 1000}, "uid 1000"},
		{&Caller{UID: 0, Container: &x, CgroupOwner: 1001}, "uid 1001"},
		{&Caller{Container: of(1002)}, "uid 1002"},
		{&Caller{Container: of(1000), CgroupOwner: 1000}, "uid 1000"},
		{&Caller{Container: of(1000), CgroupOwner: 100005}, "uid 1000"},
		{&Caller{Container: of(100007), CgroupOwner: 100007}, "uid 1000"},
		{&Caller{UID: 100007, Container: &x}, "x"},
		{&Caller{UID: 7, Container: &x}, "x"},
		{&Caller{UID: 100000, Container: &x, CgroupOwner: 100000}, "x"},
	} {
		if got := u.payer(tt.caller); got != tt.want {
			t.Errorf("%+v: charged to %q, must be %q", tt.caller, got, tt.want)
		}
	}
}
