package fifo

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/daemontest"
	"github.com/cima-project/cima/daemon/procfs"
)

// TestMain lets this program also be one that waits.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "await" {
		os.Exit(await(os.Args[2:]))
	}
	goleak.VerifyTestMain(m)
}

// await makes the test's program one that waits in a FIFO: it opens the first as how
// says, and has the second open.
func await(args []string) int {
	how, fifo, other := args[0], args[1], args[2]
	path, err := unix.Open(fifo, unix.O_PATH, 0)
	if err != nil {
		return 3
	}
	reading, err := unix.Open(fifo, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return 4
	}
	otherPath, err := unix.Open(other, unix.O_PATH, 0)
	if err != nil {
		return 5
	}
	named := fmt.Sprint("/proc/self/fd/", path)
	if how != "select" && how != "read" {
		unix.Close(reading) // else the FIFO has a reader
	}
	switch how {
	case "open": // as runc
		unix.Open(named, unix.O_WRONLY, 0)
	case "openat": // as a runc that opens below a descriptor of /proc/thread-self/fd
		runtime.LockOSThread()
		dir, err := unix.Open("/proc/thread-self/fd", unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return 6
		}
		unix.Openat(dir, fmt.Sprint(path), unix.O_WRONLY, 0)
	case "openat2":
		unix.Openat2(unix.AT_FDCWD, named, &unix.OpenHow{Flags: unix.O_WRONLY})
	case "thread":
		go func() {
			runtime.LockOSThread()
			unix.Open(named, unix.O_WRONLY, 0)
		}()
		unix.Pause()
	case "select": // as crun
		var set unix.FdSet
		set.Set(reading)
		unix.Select(reading+1, &set, nil, nil, nil)
	case "read":
		unix.SetNonblock(reading, false)
		writing, err := unix.Open(named, unix.O_WRONLY, 0)
		if err != nil {
			return 7
		}
		runtime.KeepAlive(writing)
		unix.Read(reading, make([]byte, 1))
	case "other":
		unix.Open(fmt.Sprint("/proc/self/fd/", otherPath), unix.O_WRONLY, 0)
	case "path": // by its name: no runtime does
		unix.Open(fifo, unix.O_WRONLY, 0)
	case "busy":
		for os.Getppid() != 1 { // until its parent kills it
		}
	case "pause":
		unix.Pause()
	}
	return 0
}

// Who waits in the exec FIFO is known by the descriptor that its system call is about,
// not by the text of a path.
func TestAwaitsStart(t *testing.T) {
	for how, want := range map[string]bool{
		"open": true, "openat": true, "openat2": true, "thread": true, "select": true, "read": true,
		"other": false, "path": false, "busy": false, "pause": false,
	} {
		t.Run(how, func(t *testing.T) {
			dir := t.TempDir()
			fifo, other, third := filepath.Join(dir, "a", Name), filepath.Join(dir, "b", Name), filepath.Join(dir, "c", Name)
			for _, name := range []string{fifo, other, third} {
				if err := os.Mkdir(filepath.Dir(name), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := unix.Mkfifo(name, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			c := exec.Command("/proc/self/exe", "await", how, fifo, other)
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				c.Process.Kill()
				c.Wait()
			}()
			id, err := In(filepath.Dir(fifo))
			if err != nil {
				t.Fatal(err)
			}
			if want {
				daemontest.Eventually(t, "it waits", func() bool { return AwaitsStart(c.Process.Pid, id) })
				another, err := In(filepath.Dir(third))
				if err != nil || !IsOpen(c.Process.Pid, id) || IsOpen(c.Process.Pid, another) || IsOpen(os.Getpid(), id) {
					t.Error("who has the FIFO", err)
				}
				return
			}
			daemontest.Eventually(t, "it is where it stays", func() bool { return settled(c.Process.Pid, how) })
			for range 20 {
				if AwaitsStart(c.Process.Pid, id) {
					t.Fatal("it waits")
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
}

// settled reports whether a process of await is in the call that it never leaves.
func settled(pid int, how string) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	if how == "busy" {
		return strings.Contains(string(text), ") R ")
	}
	call, err := procfs.BlockedIn(pid, pid)
	return err == nil && (call.Number == unix.SYS_OPENAT || how == "pause")
}

// What lies where the exec FIFO should, and is none, is no FIFO to wait in.
func TestIn(t *testing.T) {
	dir := t.TempDir()
	if _, err := In(dir); !os.IsNotExist(err) {
		t.Errorf("none: %v", err)
	}
	real := filepath.Join(t.TempDir(), "real")
	if err := unix.Mkfifo(real, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real, filepath.Join(dir, Name)); err != nil {
		t.Fatal(err)
	}
	if _, err := In(dir); err == nil || os.IsNotExist(err) {
		t.Errorf("a symbolic link: %v", err)
	}
}
