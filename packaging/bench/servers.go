package main

import (
	"bytes"
	"errors"
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

// rawServer gives back every byte: no protocol can be faster.
func rawServer(path string) error {
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	if err := os.Chmod(path, 0o666); err != nil {
		return err
	}
	for {
		nc, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer nc.Close()
			var b [1]byte
			for {
				if _, err := nc.Read(b[:]); err != nil {
					return
				}
				if _, err := nc.Write(b[:]); err != nil {
					return
				}
			}
		}()
	}
}

// started is a process that listens on a socket.
type started struct {
	process *os.Process
	done    chan struct{}
}

// begin starts a server and waits for its socket. What it says goes into a
// file beside it.
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
	for deadline := time.After(15 * time.Second); ; {
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
			return nil, fmt.Errorf("%s is not ready after 15 s", filepath.Base(program))
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

// cpuTime is what a process has used so far, in ticks of 10 ms
// (proc_pid_stat(5)).
func cpuTime(pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	if errors.Join(err1, err2) != nil {
		return 0
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}

// peakMemory is the most that a process ever had resident, in KiB
// (proc_pid_status(5)).
func peakMemory(pid int) int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, found := strings.Cut(string(status), "VmHWM:")
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
