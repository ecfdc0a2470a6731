package procfs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/daemontest"
)

func TestParseCall(t *testing.T) {
	got, err := parseCall("257 0xffffffffffffff9c 0xc0001352d0 0x80001 0x0 0x0 0x6 0xc00019f708 0x40828e\n")
	if want := (Call{257, [6]uint64{0xffffffffffffff9c, 0xc0001352d0, 0x80001, 0, 0, 6}}); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for _, text := range []string{"running\n", "-1 0x7f 0x40\n", "", "257 0x1", "257 1 2 3 4 5 6 7 8 9"} {
		if _, err := parseCall(text); !errors.Is(err, errNotBlocked) {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{"-1 1 2 3 4 5 6 7 8", "0x1 1 2 3 4 5 6 7 8", "1 1 2 3 4 5 x 7 8", "1 1 2 3 4 5 0x1ffffffffffffffff 7 8"} {
		if _, err := parseCall(text); err == nil || errors.Is(err, errNotBlocked) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzParseCall(f *testing.F) {
	f.Add("257 0xffffffffffffff9c 0xc0001352d0 0x80001 0x0 0x0 0x0 0xc00019f708 0x40828e")
	f.Fuzz(func(t *testing.T, line string) {
		c, err := parseCall(line)
		if err == nil && strings.Fields(line)[0] != strings.TrimLeft(fmt.Sprint(c.Number), "+") && !strings.HasPrefix(line, "0") {
			if n := strings.TrimLeft(strings.Fields(line)[0], "0"); n != fmt.Sprint(c.Number) && n != "" {
				t.Errorf("%q: number %d", line, c.Number)
			}
		}
	})
}

// A process that reads a pipe is blocked in read(2) of descriptor 0.
func TestBlockedIn(t *testing.T) {
	child := exec.Command("cat")
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	pid := child.Process.Pid
	daemontest.Eventually(t, "cat reads", func() bool {
		c, err := BlockedIn(pid, pid)
		return err == nil && c.Number == unix.SYS_READ && c.Arguments[0] == 0
	})
	if threads, err := Threads(pid, 1); err != nil || len(threads) != 1 || threads[0] != pid {
		t.Errorf("threads %v, %v", threads, err)
	}
	if threads, err := Threads(os.Getpid(), 1); err == nil {
		t.Errorf("of a program with several: %v", threads)
	}
	stdin.Close()
	if err := child.Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := BlockedIn(pid, pid); err == nil {
		t.Error("a process that has ended is blocked")
	}
}

func TestMemory(t *testing.T) {
	m, err := OpenMemory(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	// Two pages, of which the second can't be read.
	const page = 4096
	area, err := unix.Mmap(-1, 0, 2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(area)
	long := strings.Repeat("x", page+100)
	copy(area[10:], long+"\x00behind")
	at := uint64(uintptr(unsafe.Pointer(&area[0])))
	if text, err := m.String(at+10, 2*page); err != nil || text != long {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	if text, err := m.String(at+10, len(long)); err != nil || text != long {
		t.Errorf("as long as allowed: %d bytes, %v", len(text), err)
	}
	if text, err := m.String(at+10, len(long)-1); err == nil {
		t.Errorf("longer than allowed: %d bytes", len(text))
	}
	var b [8]byte
	if err := m.Read(at+page+106, b[:]); err != nil || string(b[:]) != "xxxx\x00beh" {
		t.Errorf("%q, %v", b, err)
	}
	if err := unix.Mprotect(area[page:], unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	for _, address := range []uint64{0, 1 << 63, 1<<64 - 1} {
		if text, err := m.String(address, page); err == nil {
			t.Errorf("%#x: %q", address, text)
		}
		if err := m.Read(address, b[:]); err == nil {
			t.Errorf("%#x was read", address)
		}
	}
	runtime.KeepAlive(area)
}

func TestEffectiveUID(t *testing.T) {
	if uid, err := EffectiveUID(os.Getpid()); err != nil || int(uid) != os.Geteuid() {
		t.Errorf("%d, %v", uid, err)
	}
	const text = "Name:\ta\\nUid:\t9\t9\t9\t9\nUmask:\t0022\nUid:\t1\t4294967295\t3\t4\nGid:\t0"
	if uid, err := parseEffectiveUID(text); err != nil || uid != 1<<32-1 {
		t.Errorf("%d, %v", uid, err)
	}
	for _, text := range []string{"", "Name:\tUid:\t0\t0\t0\t0\n", "\nUid:\t0\t0\t0\t0", "\nUid:\t0\t0\t0\n", "\nUid:\t0\t-1\t0\t0\n", "\nUid:\t0\t4294967296\t0\t0\n"} {
		if uid, err := parseEffectiveUID(text); err == nil {
			t.Errorf("%q: %d", text, uid)
		}
	}
}
