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

// begin starts a server and waits for its socket. What it says goes into a
// file next to it.
func begin(log, socket, program string, args ...string) (*started, error) {
	f, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c := exec.Command(program, args...)
	c.Stdout, c.Stderr = f, f
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // it is stopped after its clients
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

// stop asks, waits, and kills.
func (s *started) stop() {
	s.process.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(10 * time.Second):
		s.process.Kill()
		<-s.done
	}
}

// cpuTime is what a process has used so far, which the kernel counts for each
// thread to the nanosecond (/proc/PID/task/TID/schedstat); a Go program ends
// none of its own in a round.
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

// memory is what a process has resident and had at most, in KiB.
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

// load is what else this machine does: processes that run or want to, on
// average over the last minute.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}
