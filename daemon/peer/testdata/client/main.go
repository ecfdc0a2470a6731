// Client is the caller of the tests: it connects to a Unix socket and does,
// from wherever it was started, what the test tells it, a line at a time.
//
//	client SOCKET         connect and obey
//	client nest SOCKET    the same in a pid namespace of its own
//	client hold           keep descriptor 3 open until its other end closes
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "client:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "nest":
		child := exec.Command("/proc/self/exe", args[1])
		child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
		child.Stderr = os.Stderr
		return child.Run()
	case len(args) == 1 && args[0] == "hold":
		_, err := io.Copy(io.Discard, os.NewFile(3, "socket"))
		return err
	case len(args) == 1:
		return obey(args[0])
	}
	return fmt.Errorf("usage: client [nest] SOCKET")
}

// obey reads commands from the socket and answers each with "ok" or an error.
func obey(socket string) error {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		switch words[0] {
		case "again": // a second connection, by the process as it is now
			if conn, err = net.Dial("unix", socket); err != nil {
				return err
			}
			lines = bufio.NewScanner(conn)
			continue
		case "exit":
			os.Exit(0)
		case "handover": // the connection outlives its process
			return handOver(conn.(*net.UnixConn))
		}
		answer := "ok"
		if err := do(words[0], words[1:]); err != nil {
			answer = "error: " + err.Error()
		}
		fmt.Fprintln(conn, answer)
	}
	return lines.Err()
}

func handOver(conn *net.UnixConn) error {
	file, err := conn.File()
	if err != nil {
		return err
	}
	child := exec.Command("/proc/self/exe", "hold")
	child.ExtraFiles = []*os.File{file}
	return child.Start()
}

// do changes cgroups. HIERARCHY is a name below /sys/fs/cgroup, or a pattern.
//
//	join HIERARCHY PATH
//	mkdir HIERARCHY PATH
//	rename HIERARCHY OLD NEW
func do(verb string, args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("%s: too few words", verb)
	}
	dirs, err := hierarchies(args[0])
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		switch verb {
		case "join":
			err = os.WriteFile(filepath.Join(dir, args[1], "cgroup.procs"), []byte("0"), 0)
		case "mkdir":
			err = os.MkdirAll(filepath.Join(dir, args[1]), 0o755)
		case "rename":
			err = os.Rename(filepath.Join(dir, args[1]), filepath.Join(dir, args[2]))
		default:
			err = fmt.Errorf("unknown word %q", verb)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// hierarchies returns the root directories of those that the pattern names;
// with cgroup v2 alone there is one.
func hierarchies(pattern string) ([]string, error) {
	const root = "/sys/fs/cgroup"
	if _, err := os.Stat(root + "/cgroup.procs"); err == nil {
		return []string{root}, nil
	}
	names, err := filepath.Glob(filepath.Join(root, pattern))
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, name := range names {
		if st, err := os.Lstat(name); err == nil && st.IsDir() { // not the links to joined controllers
			dirs = append(dirs, name)
		}
	}
	if len(dirs) == 0 {
		return nil, fmt.Errorf("no hierarchy %s", pattern)
	}
	return dirs, nil
}
