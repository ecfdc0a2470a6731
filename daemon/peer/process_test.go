package peer

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/procfs"
)

func TestCountNSpid(t *testing.T) {
	deep := "NSpid:" + strings.Repeat("\t1", maxPIDNamespaces+1) + "\n"
	for text, want := range map[string]int{
		"Name:\tx\nNSpid:\t4509\nNSpgid:\t1\n":   1,
		"Name:\tx\nNSpid:\t4509\t1\nThreads:\t1": 2,
		"Name:\tNSpid:\nNSpid:\t7\t2\t1\n":       3,
		deep:                                     33,
	} {
		if got, err := countNSpid(text); err != nil || got != want {
			t.Errorf("%q: %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "Name:\tx\n", "NSpid:\n", "NSpid:\t0\n", "NSpid:\t-1\n", "NSpid:\tx\n",
		"NSpid:\t99999999999\n", "NSpid:\t1\nNSpid:\t1\n", " NSpid:\t1\n",
		strings.Replace(deep, "\t1\t", "\t1\t1\t", 1),
	} {
		if got, err := countNSpid(text); err == nil {
			t.Errorf("%q: %d, want an error", text, got)
		}
	}
}

func TestUIDsOf(t *testing.T) {
	type uids struct {
		effective uint32
		differ    bool
	}
	for text, want := range map[string]uids{
		"Name:\tx\nUid:\t0\t0\t0\t0\nGid:\t1\t2\t3\t4\n":         {0, false},
		"Name:\tUid:\nUid:\t1000\t1000\t1000\t1000\n":            {1000, false},
		"Uid:\t1000\t0\t0\t0\n":                                  {0, true},
		"Uid:\t0\t1000\t0\t1000\n":                               {1000, true},
		"Uid:\t4294967294\t4294967294\t4294967294\t4294967294\n": {4294967294, false},
		"Uid:\t1000\t1000\t0\t1000\nNSpid:\t4\n":                 {1000, true},
		"Uid:\t1000\t1000\t1000\t0\n":                            {1000, true},
	} {
		if got, differ, err := uidsOf(text); err != nil || (uids{got, differ}) != want {
			t.Errorf("%q: %d, %t, %v, want %v", text, got, differ, err, want)
		}
	}
	for _, text := range []string{
		"", "Uid:\n", "Uid:\t0\t0\t0\n", "Uid:\t0\t0\t0\t0\t0\n", "Uid:\t-1\t0\t0\t0\n",
		"Uid:\t0\t0\t0\t0\nUid:\t0\t0\t0\t0\n", "Uid:\t4294967296\t0\t0\t0\n", "Gid:\t0\t0\t0\t0\n",
	} {
		if got, _, err := uidsOf(text); err == nil {
			t.Errorf("%q: %d, want an error", text, got)
		}
	}
}

func FuzzUIDsOf(f *testing.F) {
	f.Add("Name:\tx\nUid:\t0\t0\t0\t0\n")
	f.Fuzz(func(t *testing.T, text string) {
		if uid, _, err := uidsOf(text); err != nil && uid != 0 {
			t.Fatalf("uid %d with an error", uid)
		}
	})
}

func FuzzCountNSpid(f *testing.F) {
	f.Add("Name:\tx\nNSpid:\t4509\t1\n")
	f.Fuzz(func(t *testing.T, text string) {
		if n, err := countNSpid(text); err == nil && (n < 1 || n > maxPIDNamespaces+1) {
			t.Fatalf("%d pids", n)
		}
	})
}

func TestProcessReadsItself(t *testing.T) {
	p := openTest(t, os.Getpid())
	status, err := p.read("status")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := countNSpid(status); err != nil || n < 1 {
		t.Errorf("%d pids, %v", n, err)
	}
	if uid, differ, err := uidsOf(status); err != nil || uid != uint32(os.Geteuid()) || differ {
		t.Errorf("uid %d, %t, %v", uid, differ, err)
	}
	if ticks, err := p.started(); err != nil || ticks == 0 {
		t.Errorf("started at %d, %v", ticks, err)
	}
	text, err := p.read("cgroup")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseCgroup(text); err != nil {
		t.Error(err)
	}
	ns, err := p.pidNS()
	if err != nil || ns.Inode == 0 {
		t.Errorf("pid namespace %v, %v", ns, err)
	}
	if below, err := p.below(ns); err != nil || below {
		t.Errorf("below itself: %t, %v", below, err)
	}
}

// A dead process is reported dead, also as a zombie and after it was reaped.
func TestProcessEnds(t *testing.T) {
	s := listen(t)
	cmd, conn := startClient(t, s)
	p := openTest(t, cmd.Process.Pid)
	conn.tell(t, "exit")
	waitFor(t, "the end of the client", func() bool { return procfs.Alive(p.pidfd) != nil })
	if err := procfs.Alive(p.pidfd); !errors.Is(err, procfs.ErrEnded) {
		t.Errorf("zombie: %v", err)
	}
	proc, err := unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(proc)
	if _, err := openProcess(proc, cmd.Process.Pid, p.pidfd); !errors.Is(err, procfs.ErrEnded) {
		t.Errorf("open of a zombie: %v", err)
	}
	cmd.Wait()
	if _, err := p.read("cgroup"); !errors.Is(err, procfs.ErrEnded) {
		t.Errorf("cgroup after the end: %v", err)
	}
	if _, err := p.pidNS(); !errors.Is(err, procfs.ErrEnded) {
		t.Errorf("pid namespace after the end: %v", err)
	}
	if err := procfs.Alive(openTest(t, os.Getpid()).pidfd, p.pidfd); !errors.Is(err, procfs.ErrEnded) {
		t.Errorf("one of two: %v", err)
	}
}

func TestReadAllRefusesHugeFiles(t *testing.T) {
	name := t.TempDir() + "/f"
	for size, fits := range map[int]bool{0: true, 4095: true, 4096: true, 40000: true, maxCgroupFile: false, maxCgroupFile + 1: false, 1 << 20: false} {
		want := strings.Repeat("x", size)
		if err := os.WriteFile(name, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := readAll(int(file.Fd()))
		if fits != (err == nil) || fits && got != want {
			t.Errorf("%d bytes: %d, %v", size, len(got), err)
		}
		file.Close()
	}
}
