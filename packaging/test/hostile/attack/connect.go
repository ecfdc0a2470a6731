package attack

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socketPath is where containers have the daemon's socket.
const socketPath = "/run/cima/cima.sock"

// connections are ways to connect in a loop, each until the program is killed.
var connections = map[string]func(n int, t *tally){
	"waiting":   func(_ int, t *tally) { raw(0, t) },
	"failing":   func(_ int, t *tally) { raw(unix.SOCK_NONBLOCK, t) },
	"uids":      uids,
	"processes": processes,
	"held":      held,
	"refused":   refused,
	"once":      func(_ int, t *tally) { raw1(0, t) },
}

// connects connects in many loops at once: "connect WAY LOOPS".
func connects(args []string) error {
	var loops int
	if len(args) != 2 || connections[args[0]] == nil {
		return errors.New("a way to connect, and how many loops")
	}
	if err := numbers(args[1:], &loops); err != nil {
		return err
	}
	var t tally
	if args[0] == "once" {
		connections[args[0]](0, &t)
		return nil
	}
	runtime.GOMAXPROCS(loops + 2)
	for n := range loops {
		go func() {
			runtime.LockOSThread()
			for {
				connections[args[0]](n, &t)
			}
		}()
	}
	for {
		time.Sleep(time.Second)
		fmt.Println("done", t.done.Load(), "refused", t.refused.Load())
	}
}

// raw connects and hangs up, a thousand times, with as few instructions as can be.
func raw(flags uintptr, t *tally) {
	for range 1000 {
		raw1(flags, t)
	}
}

func raw1(flags uintptr, t *tally) {
	address := unix.RawSockaddrUnix{Family: unix.AF_UNIX}
	for i := range socketPath {
		address.Path[i] = int8(socketPath[i])
	}
	fd, _, errno := syscall.RawSyscall(unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|flags, 0)
	if errno == 0 {
		_, _, errno = syscall.Syscall(unix.SYS_CONNECT, fd, uintptr(unsafe.Pointer(&address)), unsafe.Sizeof(address))
		syscall.RawSyscall(unix.SYS_CLOSE, fd, 0, 0)
	}
	t.count(errno == 0)
}

func (t *tally) count(done bool) {
	if done {
		t.done.Add(1)
	} else {
		t.refused.Add(1)
	}
}

var uid atomic.Uint32

// uids connects each time as another uid of the container.
func uids(_ int, t *tally) {
	const same = ^uintptr(0)
	syscall.RawSyscall(unix.SYS_SETRESUID, same, uintptr(1+uid.Add(1)%60000), 0)
	raw1(0, t)
	syscall.RawSyscall(unix.SYS_SETRESUID, same, 0, 0)
}

// processes connects each time from another process.
func processes(_ int, t *tally) {
	t.count(exec.Command("/attacker", "connect", "once", "1").Run() == nil)
}

// held keeps connections open on which half a request was sent, as long as the daemon
// keeps them.
func held(_ int, t *tally) {
	nc, err := net.Dial("unix", socketPath)
	t.count(err == nil)
	if err != nil {
		time.Sleep(time.Millisecond)
		return
	}
	nc.Write([]byte(`{"jsonrpc":"2.0",`))
	nc.SetReadDeadline(time.Now().Add(20 * time.Second))
	nc.Read(make([]byte, 1))
	nc.Close()
}

// refused sends requests that are refused, as fast as they are answered.
func refused(_ int, t *tally) {
	nc, err := net.Dial("unix", socketPath)
	if err != nil {
		return
	}
	defer nc.Close()
	answers := bufio.NewReader(nc)
	for n := range 1000 {
		if _, err := fmt.Fprintf(nc, `{"jsonrpc":"2.0","id":%d,"method":"x"}`+"\n", n); err != nil {
			return
		}
		_, err := answers.ReadSlice('\n')
		t.count(err == nil)
		if err != nil {
			return
		}
	}
}
