package packaging

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	imaEntries = 10_000
	startBound = 100 * time.Millisecond // on a machine that does nothing else
	idleBound  = 25 << 10               // KiB, PSS
)

var whole = flag.Bool("whole", false, "build packages twice and compare them; start the daemon 20 times, and hold the median to its bound")

// The time from the start of the process to READY, on a machine with a long IMA
// log, and the memory that the daemon uses when it has read that log.
func TestStart(t *testing.T) {
	if testing.Short() {
		t.Skip("left out: -short")
	}
	if os.Geteuid() != 0 {
		t.Skip("left out: an IMA log can be put in place by root only")
	}
	program := filepath.Join(t.TempDir(), "cimad-sim")
	build := exec.Command("go", "build", "-trimpath", "-o", program, "./daemon/cimad-sim")
	build.Dir, build.Env = "..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	starts := 1
	if *whole {
		starts = 20
	}
	var idle int
	var took []time.Duration
	done := make(chan error)
	go func() {
		// The thread, and every process started from it, see an IMA log of
		// their own. The thread is never unlocked, and ends with this function.
		runtime.LockOSThread()
		err := longIMALog()
		for i := 0; i < starts && err == nil; i++ {
			var d time.Duration
			d, idle, err = startOnce(program, i == starts-1)
			took = append(took, d)
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	slices.Sort(took)
	median := took[starts/2]
	t.Logf("start to READY: median %v of %d, %v to %v; PSS when idle %d KiB", median, starts, took[0], took[starts-1], idle)
	if *whole && median >= startBound {
		t.Errorf("the start took %v to READY, and must take at most %v", median, startBound)
	}
	if idle == 0 || idle >= idleBound {
		t.Errorf("PSS is %d KiB when idle, and must be at most %d", idle, idleBound)
	}
}

// longIMALog mounts a real log of 10,000 entries where the kernel shows its
// own.
func longIMALog() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	const security, from = "/sys/kernel/security", "../logs/ima/testdata/ima-debian13"
	if err := unix.Mount("tmpfs", security, "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount on %s: %w", security, err)
	}
	log, err := os.ReadFile(filepath.Join(from, "binary_runtime_measurements"))
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(from, "runtime_measurements_count"))
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return err
	}
	times := (imaEntries + n - 1) / n
	dir := filepath.Join(security, "integrity/ima")
	return errors.Join(os.MkdirAll(dir, 0o755),
		os.WriteFile(filepath.Join(dir, "binary_runtime_measurements"), bytes.Repeat(log, times), 0o644),
		os.WriteFile(filepath.Join(dir, "runtime_measurements_count"), fmt.Appendf(nil, "%d\n", times*n), 0o644))
}

// startOnce starts the daemon on a TD that has just booted, and measures the
// time. With idle it waits until the daemon has no work left.
func startOnce(program string, idle bool) (took time.Duration, pss int, err error) {
	dir, err := os.MkdirTemp("", "cima")
	if err != nil {
		return 0, 0, err
	}
	defer os.RemoveAll(dir)
	td := exec.Command(program, "td", "--dir", dir)
	if err := td.Start(); err != nil {
		return 0, 0, err
	}
	defer end(td)
	socket := filepath.Join(dir, "td.sock")
	for range 500 {
		if _, err = os.Stat(socket); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		return 0, 0, err
	}
	states, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		return 0, 0, err
	}
	defer states.Close()
	states.SetReadDeadline(time.Now().Add(time.Minute))
	daemon := exec.Command(program, "--td", socket, "--runtime-dir", dir)
	daemon.Env = append(os.Environ(), "NOTIFY_SOCKET="+filepath.Join(dir, "notify"))
	began := time.Now()
	if err := daemon.Start(); err != nil {
		return 0, 0, err
	}
	defer end(daemon)
	for state := make([]byte, 4096); ; {
		n, err := states.Read(state)
		if err != nil {
			return 0, 0, fmt.Errorf("waiting for READY: %w", err)
		}
		if bytes.Contains(state[:n], []byte("READY=1")) {
			took = time.Since(began)
			break
		}
	}
	if idle {
		time.Sleep(3 * time.Second)
		if pss, err = pssOf(daemon.Process.Pid); err == nil {
			err = anchored(filepath.Join(dir, "log/cima/runtime.log"))
		}
	}
	return took, pss, err
}

// anchored reports whether the daemon has read the IMA log.
func anchored(path string) error {
	log, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for line := range bytes.Lines(log) {
		var r struct{ Event []byte }
		if json.Unmarshal(line, &r) == nil && bytes.Contains(r.Event, []byte("cima ima {")) {
			return nil
		}
	}
	return errors.New("no event anchors the IMA log")
}

func end(c *exec.Cmd) {
	c.Process.Kill()
	c.Wait()
}

// pssOf is the memory of a process in KiB, with its share of memory that others
// use too (proc(5), smaps_rollup).
func pssOf(pid int) (int, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) == 3 && fields[0] == "Pss:" {
			return strconv.Atoi(fields[1])
		}
	}
	return 0, errors.New("smaps_rollup has no Pss")
}
