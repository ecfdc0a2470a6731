package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// Names of the sockets, in FileDescriptorName= of the units.
const (
	socketName       = "cima"
	adminSocketName  = "cima-admin"
	lookupSocketName = "cima-lookup"
)

// dirs are the daemon's folders under its runtime directory.
type dirs struct {
	socket string // bind-mounted into containers: nothing else is in it
	admin  string
	lookup string
	log    string
}

func dirsUnder(runtimeDir string) dirs {
	return dirs{
		socket: filepath.Join(runtimeDir, "cima"),
		admin:  filepath.Join(runtimeDir, "cima-admin"),
		lookup: filepath.Join(runtimeDir, "cima-lookup"),
		log:    filepath.Join(runtimeDir, "log", "cima"),
	}
}

// inherited are the descriptors that the service manager handed over.
type inherited struct {
	caller, admin, lookup *net.UnixListener
	agentKey              *os.File
}

// inherit takes the sockets and the stored key (sd_listen_fds(3)). A
// descriptor with another name, or of another kind, is an error: it would be
// a socket that nobody answers.
func inherit() (inherited, error) {
	var in inherited
	for _, f := range activation.Files(true) {
		switch f.Name() {
		case socketName, adminSocketName, lookupSocketName:
			l, err := unixListener(f)
			if err != nil {
				return in, fmt.Errorf("socket %q of the service manager: %w", f.Name(), err)
			}
			switch f.Name() {
			case socketName:
				in.caller = l
			case adminSocketName:
				in.admin = l
			case lookupSocketName:
				in.lookup = l
			}
		case agentKeyName:
			in.agentKey = f
		default:
			return in, fmt.Errorf("the service manager handed over a descriptor named %q; known are %q, %q, %q and %q",
				f.Name(), socketName, adminSocketName, lookupSocketName, agentKeyName)
		}
	}
	return in, nil
}

// Sockets are what the daemon answers on. Admin and Lookup may be nil, where
// a service manager didn't hand them over.
type Sockets struct {
	Caller, Admin, Lookup *net.UnixListener
}

// complete makes the sockets if the service manager handed over none.
func (in inherited) complete(d dirs) (Sockets, error) {
	if in.caller != nil || in.admin != nil || in.lookup != nil {
		if in.caller == nil {
			return Sockets{}, fmt.Errorf("the service manager handed over sockets without %q", socketName)
		}
		return Sockets{in.caller, in.admin, in.lookup}, nil
	}
	// Containers of any uid connect; what they may do, their identity decides.
	caller, err := listen(d.socket, 0o755, "cima.sock", 0o666)
	if err != nil {
		return Sockets{}, err
	}
	admin, err := listen(d.admin, 0o700, "admin.sock", 0o600)
	if err != nil {
		caller.Close()
		return Sockets{}, err
	}
	// Root alone, until an administrator gives directory and socket to a group: a daemon
	// without a service manager knows of none.
	lookup, err := listen(d.lookup, 0o700, "lookup.sock", 0o600)
	if err != nil {
		caller.Close()
		admin.Close()
		return Sockets{}, err
	}
	return Sockets{caller, admin, lookup}, nil
}

func unixListener(f *os.File) (*net.UnixListener, error) {
	defer f.Close()
	for _, option := range []struct {
		name  int
		want  int
		wrong string
	}{
		{unix.SO_DOMAIN, unix.AF_UNIX, "not a Unix socket"},
		{unix.SO_TYPE, unix.SOCK_STREAM, "not a stream socket"},
		{unix.SO_ACCEPTCONN, 1, "not listening (Accept=no is needed)"},
	} {
		got, err := unix.GetsockoptInt(int(f.Fd()), unix.SOL_SOCKET, option.name)
		if err != nil {
			return nil, err
		}
		if got != option.want {
			return nil, errors.New(option.wrong)
		}
	}
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	ul := l.(*net.UnixListener)
	ul.SetUnlinkOnClose(false) // the manager's, and it outlives us
	return ul, nil
}

// listen makes a socket where the service manager handed over none. The log's lock is
// held, so a socket that is there is of a daemon that ended.
func listen(dir string, dirMode os.FileMode, name string, mode os.FileMode) (*net.UnixListener, error) {
	if err := makeDir(dir, dirMode); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, name)
	if len(path) >= 108 {
		return nil, fmt.Errorf("socket path %s has %d bytes and must have at most 107: choose a shorter --runtime-dir", path, len(path))
	}
	if fi, err := os.Lstat(path); err == nil && fi.Mode().Type() == os.ModeSocket {
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	// The folder decides who can reach the socket; mode undoes the umask.
	if err := os.Chmod(path, mode); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// makeDir makes a directory, or checks that the one that exists belongs to the daemon's
// user and that nobody else can write to it.
func makeDir(dir string, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	err := os.Mkdir(dir, mode)
	if err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err == nil {
		return os.Chmod(dir, mode) // umask
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return fmt.Errorf("%s must be a directory", dir)
	case int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%s belongs to uid %d and must belong to the daemon's %d", dir, st.Uid, os.Geteuid())
	case st.Mode&0o022 != 0:
		return fmt.Errorf("%s must not be writable by others (mode %#o)", dir, st.Mode&0o7777)
	}
	return nil
}
