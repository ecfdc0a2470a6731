package main

import (
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// manager does for the daemon what systemd does: it keeps the sockets and the
// agent's key, starts the daemon, and restarts it.
type manager struct {
	dir     string
	program string // the daemon's; another one after an upgrade
	tally   *tally

	sockets []*os.File
	notify  *net.UnixConn
	td      *exec.Cmd
	roots   []*x509.Certificate

	mu       sync.Mutex
	key      *os.File // the stored agent key
	daemon   *exec.Cmd
	ended    chan struct{} // closed when daemon has
	stopping bool          // it was asked to end
	upgrades int
}

func newManager(dir, bin string, t *tally) (*manager, error) {
	m := &manager{dir: dir, tally: t, program: filepath.Join(dir, "cimad-sim")}
	for _, d := range []string{dir, filepath.Join(dir, "cima")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	if err := m.install(filepath.Join(bin, "cimad-sim"), 0); err != nil {
		return nil, err
	}
	if err := m.configure(0); err != nil {
		return nil, err
	}
	for name, mode := range map[string]os.FileMode{"cima/cima.sock": 0o666, "admin.sock": 0o600} {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: m.path(name), Net: "unix"})
		if err != nil {
			return nil, err
		}
		f, err := l.File()
		if err != nil {
			return nil, err
		}
		l.SetUnlinkOnClose(false)
		l.Close()
		if err := os.Chmod(m.path(name), mode); err != nil {
			return nil, err
		}
		if mode == 0o666 {
			m.sockets = append([]*os.File{f}, m.sockets...)
		} else {
			m.sockets = append(m.sockets, f)
		}
	}
	var err error
	if m.notify, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path("notify"), Net: "unixgram"}); err != nil {
		return nil, err
	}
	go m.listen()
	return m, m.startTD()
}

func (m *manager) path(name string) string { return filepath.Join(m.dir, name) }

// signal sends the daemon a signal that doesn't end it.
func (m *manager) signal(sig syscall.Signal) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.daemon.Process.Signal(sig)
}

// listen stores what the daemon hands over (FDSTORE=1).
func (m *manager) listen() {
	text, control := make([]byte, 4096), make([]byte, 4096)
	for {
		n, cn, _, _, err := m.notify.ReadMsgUnix(text, control)
		if err != nil {
			return
		}
		messages, _ := unix.ParseSocketControlMessage(control[:cn])
		for _, message := range messages {
			fds, _ := unix.ParseUnixRights(&message)
			for _, fd := range fds {
				m.mu.Lock()
				if m.key == nil && strings.Contains(string(text[:n]), "FDSTORE=1") {
					m.key = os.NewFile(uintptr(fd), "agent-key")
				} else {
					unix.Close(fd)
				}
				m.mu.Unlock()
			}
		}
	}
}

func (m *manager) start() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	files, names := m.sockets, "cima:cima-admin"
	if m.key != nil {
		files, names = append(files[:2:2], m.key), names+":agent-key"
	}
	// LISTEN_PID is the daemon's own: the shell becomes it.
	c := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, m.program,
		"--td", m.path("td/td.sock"), "--runtime-dir", m.dir, "--config", m.path("cimad.toml"))
	c.Env = append(os.Environ(), "NOTIFY_SOCKET="+m.path("notify"),
		fmt.Sprint("LISTEN_FDS=", len(files)), "LISTEN_FDNAMES="+names)
	c.ExtraFiles = files
	log, err := os.OpenFile(m.path("log.txt"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	c.Stderr = log
	if err := c.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	m.daemon, m.ended, m.stopping = c, ended, false
	go func() {
		err := c.Wait()
		m.mu.Lock()
		if !m.stopping {
			m.tally.violate("the daemon ended by itself: %v; its log is %s", err, m.path("log.txt"))
		}
		m.mu.Unlock()
		close(ended)
	}()
	return nil
}

// end ends the daemon and waits for its end.
func (m *manager) end(sig syscall.Signal) {
	m.mu.Lock()
	if m.daemon == nil {
		m.mu.Unlock()
		return
	}
	m.stopping = true
	ended := m.ended
	m.daemon.Process.Signal(sig)
	m.mu.Unlock()
	select {
	case <-ended:
	case <-time.After(60 * time.Second): // longer than everything that the daemon waits for
		m.tally.violate("the daemon doesn't stop within 60 s of signal %v", sig)
		m.daemon.Process.Kill()
		<-ended
	}
}

// close ends everything.
func (m *manager) close() {
	m.end(syscall.SIGKILL)
	if m.td != nil && m.td.Process != nil {
		m.td.Process.Kill()
		m.td.Wait()
	}
	m.notify.Close()
	for _, f := range append(m.sockets, m.key) {
		if f != nil {
			f.Close()
		}
	}
}
