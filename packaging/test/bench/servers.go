package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// started is a process that listens on a socket.
type started struct {
	process *os.Process
	done    chan struct{}
}

// begin starts a server and waits for its socket. The server's output goes into
// a file next to the socket.
func begin(log, socket, program string, args ...string) (*started, error) {
	f, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c := exec.Command(program, args...)
	c.Stdout, c.Stderr = f, f
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // its own session, because it is stopped after its clients
	if err := c.Start(); err != nil {
		return nil, err
	}
	s := &started{process: c.Process, done: make(chan struct{})}
	go func() { c.Wait(); close(s.done) }()
	for deadline := time.After(3 * time.Minute); ; {
		if nc, err := net.Dial("unix", socket); err == nil {
			nc.Close()
			return s, nil
		}
		select {
		case <-s.done:
			text, _ := os.ReadFile(log)
			return nil, fmt.Errorf("%s ended at once: %s", filepath.Base(program), strings.TrimSpace(string(text)))
		case <-deadline:
			s.stop()
			return nil, fmt.Errorf("%s is not ready after 3 minutes", filepath.Base(program))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stop asks the server to end, waits, and kills it.
func (s *started) stop() {
	s.process.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(10 * time.Second):
		s.process.Kill()
		<-s.done
	}
}

// cpuTime is the CPU time that a process has used so far. The kernel counts it
// for each thread to the nanosecond (/proc/PID/task/TID/schedstat), and a Go
// program ends no thread within a round.
func cpuTime(pid int) time.Duration {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0
	}
	var all time.Duration
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue
		}
		first, _, _ := strings.Cut(string(text), " ")
		if ns, err := strconv.ParseInt(first, 10, 64); err == nil {
			all += time.Duration(ns)
		}
	}
	return all
}

// memory is the resident memory of a process, and its peak, in KiB.
type memory struct {
	Now  int `json:"now_kib"`
	Peak int `json:"peak_kib"`
}

// statusKiB is a figure of proc_pid_status(5).
func statusKiB(pid int, name string) int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, found := strings.Cut(string(status), name)
	if !found {
		return 0
	}
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		return 0
	}
	return kib
}

// load is the load average of the last minute: the number of processes that run
// or wait to run.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}
