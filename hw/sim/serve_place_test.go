package sim

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSocketIsPrivate(t *testing.T) {
	_, td := serve(t, Config{})
	info, err := os.Lstat(td.path)
	if err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("td.sock has mode %v (%v)", info.Mode(), err)
	}
	if _, err := Listen(td.path); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("a second TD at one place: %v", err)
	}
}

func TestListenRefusesPlaces(t *testing.T) {
	dir := t.TempDir()
	open := filepath.Join(dir, "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	os.Chmod(open, 0o777)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(t.TempDir(), link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(open, "td.sock"), file, filepath.Join(link, "td.sock"), filepath.Join(dir, "none", "td.sock")} {
		if l, err := Listen(path); err == nil {
			l.Close()
			t.Errorf("%s: a socket was made there", path)
		}
		if _, err := Dial(path); err == nil {
			t.Errorf("%s: a TD was found there", path)
		}
	}
	if _, err := os.Stat(file); err != nil {
		t.Error("a file that is no socket was removed")
	}
}

// The socket of a TD that was killed is replaced.
func TestListenAfterAKill(t *testing.T) {
	dir := t.TempDir()
	os.Chmod(dir, 0o700)
	path := filepath.Join(dir, "td.sock")
	dead, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	dead.Close()
	listener, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := Serve(ctx, listener, bootMachine(t, Config{})); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket stays after an orderly end")
	}
}

// Another user gets no answer, even if the socket's mode lets it connect.
func TestStrangersAreNotAnswered(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become somebody else")
	}
	_, td := serve(t, Config{})
	os.Chmod(filepath.Dir(td.path), 0o755)
	os.Chmod(td.path, 0o666)
	for _, uid := range []uintptr{0, 65534} {
		conn, err := connectAs(uid, td.path)
		if err != nil {
			t.Fatal(err)
		}
		unix.Write(conn, []byte(`{"op":"boot id"}`+"\n"))
		n, _ := unix.Read(conn, make([]byte, 1))
		unix.Close(conn)
		if (n == 1) != (uid == 0) {
			t.Errorf("uid %d: %d bytes of an answer", uid, n)
		}
	}
}

// connectAs connects on a thread that has another effective user id.
func connectAs(uid uintptr, path string) (fd int, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const keep = ^uintptr(0)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, keep, uid, keep); errno != 0 {
		return 0, errno
	}
	defer unix.RawSyscall(unix.SYS_SETRESUID, keep, 0, keep)
	if fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return 0, err
	}
	return fd, unix.Connect(fd, &unix.SockaddrUnix{Name: path})
}
