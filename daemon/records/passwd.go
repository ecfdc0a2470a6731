package records

import (
	"context"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/abandon"
	"github.com/cima-project/cima/daemon/launch"
)

// maxPasswd bounds the bytes that are read of a container's passwd(5).
const maxPasswd = 1 << 20

// homeOf returns the home directory of the container's user by the passwd(5) in its root
// file system, below hostRoot: podman makes a variable of it. It is empty where there is none, where a
// mount covers the file, and where no variable HOME wants it known.
func homeOf(hostRoot string, r *Record, c *launch.Spec) launch.Text {
	if !hasVariable(c, "HOME") || r.RootPath == "" {
		return ""
	}
	mounts := make([]launch.Mount, len(c.Mounts))
	for i, m := range c.Mounts {
		mounts[i] = launch.Mount{Destination: m.Destination, Type: m.Type}
	}
	root, err := openRoot(hostRoot+r.RootPath, mounts)
	if err != nil {
		return ""
	}
	defer root.close()
	return launch.Text(homeIn(root.read("/etc/passwd", maxPasswd), c.Process.User.UID))
}

// homeTimeout bounds how long a passwd(5) is looked for: all who look up records wait.
const homeTimeout = 250 * time.Millisecond

// homeInTime is homeOf, and empty where a file of the container's hangs.
func (s *Store) homeInTime(ctx context.Context, r *Record, c *launch.Spec) launch.Text {
	ctx, cancel := context.WithTimeout(ctx, homeTimeout)
	defer cancel()
	of := *r // r changes meanwhile
	home, _ := abandon.Do(ctx, &s.calls, r.Bundle, func() (launch.Text, error) { return homeOf(s.options.HostRoot, &of, c), nil })
	return home
}

func hasVariable(c *launch.Spec, name string) bool {
	for _, e := range c.Process.Env {
		if strings.HasPrefix(string(e), name+"=") {
			return true
		}
	}
	return false
}

// homeIn returns the home directory of the first user with this uid.
func homeIn(passwd string, uid uint32) string {
	for line := range strings.Lines(passwd) {
		// name:password:UID:GID:GECOS:directory:shell
		fields := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(fields) == 7 && fields[2] == strconv.FormatUint(uint64(uid), 10) {
			return fields[5]
		}
	}
	return ""
}

// read returns a small regular file of the root file system, "" where there is none.
func (root *rootfs) read(name string, limit int64) string {
	at, err := root.resolve(name)
	if err != nil {
		return ""
	}
	fd, st, err := root.stat(at)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > limit {
		return ""
	}
	regular, err := openRegular(fd)
	if err != nil {
		return ""
	}
	f := os.NewFile(uintptr(regular), name)
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil || int64(len(text)) > limit {
		return ""
	}
	return string(text)
}
