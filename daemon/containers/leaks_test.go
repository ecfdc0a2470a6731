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
	if len(os.Args) > 1 && os.Args[1] == "await" {
		os.Exit(await())
	}
	if err := engine.Alone(); err != nil { // power compares with the namespaces of process 1
		fmt.Fprintln(os.Stderr, "tests of first processes may be left out:", err)
	}
	goleak.VerifyTestMain(m)
}

// await is what runc's first process does, which has its exec FIFO as descriptor 3. It
// waits in the FIFO once its standard input has a byte, and runs until that ends.
func await() int {
	const fifo = 3
	var b [1]byte
	if _, err := os.Stdin.Read(b[:]); err != nil {
		return 4
	}
	if _, err := unix.Open(fmt.Sprint("/proc/self/fd/", fifo), unix.O_WRONLY|unix.O_CLOEXEC, 0); err != nil {
		return 5
	}
	unix.Close(fifo)
	io.Copy(io.Discard, os.Stdin)
	return 0
}
