package containers

import (
	"fmt"
	"io"
	"os"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/packaging/test/engine"
)

// TestMain lets this program also be a container's first process.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "await" {
		os.Exit(await(os.Args[2]))
	}
	if err := engine.Alone(); err != nil { // power compares with the namespaces of process 1
		fmt.Fprintln(os.Stderr, "tests of first processes may be left out:", err)
	}
	goleak.VerifyTestMain(m)
}

// await is what runc's first process does: for each byte of its standard input one
// step. First it waits in its exec FIFO; then it runs until its input ends.
func await(fifo string) int {
	fd, err := unix.Open(fifo, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return 3
	}
	var b [1]byte
	if _, err := os.Stdin.Read(b[:]); err != nil {
		return 4
	}
	if _, err := unix.Open(fmt.Sprint("/proc/self/fd/", fd), unix.O_WRONLY|unix.O_CLOEXEC, 0); err != nil {
		return 5
	}
	unix.Close(fd)
	io.Copy(io.Discard, os.Stdin)
	return 0
}
