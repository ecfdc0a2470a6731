package engine

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	initName = "cima-test-init" // argv[0] of the first process of the namespaces
	private  = "/run/cima-test" // exists in the namespaces only
)

// Alone continues this program in namespaces of its own (processes, mounts,
// cgroups), and returns there. /run, /var/lib and /dev/shm are empty, so that
// engines find their usual places free. OCI runtimes are copies, so that a
// gate's mark on one of them holds no other process. When the program ends, the
// kernel ends all processes and removes all mounts and files of these places.
//
// Call Alone first in TestMain or main. If namespaces can't be made it returns
// an error, and the program continues where it was.
func Alone() error {
	runtime.LockOSThread() // namespaces and the parent-death signal belong to a thread
	defer runtime.UnlockOSThread()
	switch {
	case os.Args[0] == initName:
		os.Exit(begin())
	case isAlone():
		return nil
	case os.Geteuid() != 0:
		return errors.New("namespaces need root")
	}
	if err := unshareable(); err != nil {
		return err
	}
	os.Exit(outside())
	return nil
}

func isAlone() bool {
	_, err := os.Stat(private)
	return err == nil
}

// unshareable checks that namespaces can be made, before anything depends on
// them.
func unshareable() error {
	c := exec.Command("/bin/true")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWCGROUP}
	if err := c.Run(); err != nil {
		return fmt.Errorf("make namespaces: %w", err)
	}
	return nil
}

// outside starts the first process of the namespaces, waits for its end, and
// removes its cgroups. It returns the exit code.
func outside() int {
	groups, err := newCgroups()
	if err != nil {
		return failed(err)
	}
	sweepCopies()
	defer os.RemoveAll(copiesOf(groups.name))
	c := exec.Command("/proc/self/exe")
	c.Args = append([]string{initName, groups.name}, os.Args...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		groups.remove()
		return failed(err)
	}
	forward(c.Process)
	err = c.Wait()
	if left := groups.remove(); left != nil {
		fmt.Fprintln(os.Stderr, "engine:", left)
		return 1
	}
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || !exit.Exited()) {
		return failed(err)
	}
	return c.ProcessState.ExitCode()
}

func failed(err error) int {
	fmt.Fprintln(os.Stderr, "engine: namespaces for the program:", err)
	return 1
}

// forward passes on the signals of go test and of a user's terminal. A terminal
// signals the whole process group itself; a second interrupt does no harm.
func forward(p *os.Process) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGQUIT, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		for s := range signals {
			p.Signal(s)
		}
	}()
}

// begin is the first process of the namespaces: it prepares them, starts the
// program, and reaps orphans. Its arguments are the name of the cgroups and the
// program's arguments. It returns the program's exit code.
func begin() int {
	if err := errors.Join(prepare(cgroups{os.Args[1]}), environment()); err != nil {
		return failed(err)
	}
	program, err := os.StartProcess("/proc/self/exe", os.Args[2:],
		&os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}, Env: os.Environ()})
	if err != nil {
		return failed(err)
	}
	forward(program)
	code := 1
	for ended := 0; ended != program.Pid; {
		var status syscall.WaitStatus
		if ended, err = syscall.Wait4(-1, &status, 0, nil); err == syscall.EINTR {
			continue
		} else if err != nil {
			return failed(err)
		}
		if code = status.ExitStatus(); status.Signaled() {
			code = 128 + int(status.Signal())
		}
	}
	return code
}

// environment removes variables of the caller that configure engines' clients.
func environment() error {
	var failed []error
	for _, name := range []string{"DOCKER_HOST", "DOCKER_CONTEXT", "CONTAINER_HOST", "CONTAINERS_STORAGE_CONF", "XDG_RUNTIME_DIR"} {
		failed = append(failed, os.Unsetenv(name))
	}
	return errors.Join(append(failed, os.Setenv("DOCKER_CONFIG", private), os.Setenv("CONTAINERS_CONF", containersConf))...)
}

// prepare makes the mounts that the program sees.
func prepare(groups cgroups) error {
	names, _ := os.ReadFile("/etc/resolv.conf") // the file may be in /run
	resolver, _ := filepath.EvalSymlinks("/etc/resolv.conf")
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := groups.enter(); err != nil {
		return err
	}
	for _, m := range []struct{ kind, at, options string }{
		{"proc", "/proc", ""},
		{"tmpfs", "/run", "mode=755"},
		{"tmpfs", "/var/lib", "mode=755"},
		{"tmpfs", "/dev/shm", "mode=1777"},
	} {
		if err := unix.Mount(m.kind, m.at, m.kind, 0, m.options); err != nil {
			return fmt.Errorf("mount %s at %s: %w", m.kind, m.at, err)
		}
	}
	for _, dir := range []string{private, "/run/lock"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	if _, err := os.Stat(resolver); err != nil && len(names) > 0 {
		if err := errors.Join(os.MkdirAll(filepath.Dir(resolver), 0o755), os.WriteFile(resolver, names, 0o644)); err != nil {
			return err
		}
	}
	return errors.Join(copyRuntimes(copiesOf(groups.name)), configure())
}
