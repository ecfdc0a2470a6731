package daemontest

import (
	"fmt"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// Hang mounts a file system at a directory on which every system call hangs that asks for
// anything: FUSE, which nobody serves. It returns a function that ends that.
func Hang(t *testing.T, dir string) (end func()) {
	t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skip("left out: no FUSE:", err)
	}
	if err := unix.Mount("hang", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd)); err != nil {
		unix.Close(fd)
		t.Skip("left out: FUSE can't be mounted here:", err)
	}
	end = sync.OnceFunc(func() {
		unix.Close(fd) // who hangs gets ENOTCONN
		unix.Unmount(dir, unix.MNT_DETACH)
	})
	t.Cleanup(end)
	return end
}
