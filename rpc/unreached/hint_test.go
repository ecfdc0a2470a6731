package unreached

import (
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const usual = "/run/cima/cima.sock"

// What CIMA 0.5 called its socket, and how it wrote paths, is named.
func TestFormerPaths(t *testing.T) {
	for path, want := range map[string]string{
		"/run/cima/uds/cima-server.sock":      "was CIMA 0.5's socket: name " + usual,
		"unix:/run/cima/uds/cima-server.sock": "was CIMA 0.5's socket",
		"unix:/cima/cima.sock":                "without unix: before it: /cima/cima.sock",
		"unix:///cima/cima.sock":              "without unix: before it: /cima/cima.sock",
		"/cima/cima.sock":                     "in a container: mount /cima (-v /cima:/cima:ro); on the host: systemctl start cimad",
	} {
		if h := Hint(path, usual, syscall.ENOENT); !strings.Contains(h, want) {
			t.Errorf("%s: %s", path, h)
		}
	}
}

// The socket itself is no mistake, and only a mount of the socket by itself is one; rpc's
// tests name the others.
func TestWhatIsNoMistake(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "cima.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if said := Misplaced(socket, usual); said != "" {
		t.Errorf("of the socket itself: %s", said)
	}
	const mounts = "22 1 0:21 / / rw - overlay o rw\n23 22 0:22 /cima/cima.sock /run/cima/cima.sock ro - tmpfs t rw\n"
	if !isMount(mounts, "/run/cima/cima.sock") || isMount(mounts, "/run/cima") || isMount("", "/") {
		t.Error("a mounted socket must be seen, and no other")
	}
	for number, want := range map[syscall.Errno]string{syscall.ECONNREFUSED: "nobody listens", syscall.ENOTDIR: "is no directory, the socket itself perhaps", syscall.EACCES: "SELinux"} {
		if h := Hint(filepath.Join(dir, "none"), usual, number); !strings.Contains(h, want) {
			t.Error(h)
		}
	}
}
