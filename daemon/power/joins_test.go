package power

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/cima-project/cima/daemon/launch"
)

func TestHostsNamespace(t *testing.T) {
	x := newTree(t)
	own := fmt.Sprintf("/proc/%d/ns/", os.Getpid())
	x.Symlink(own+"net", x.Dir+"/net")
	if err := os.WriteFile(x.Dir+"/file", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		join
		hosts, known bool
	}{
		{join{"network", "/proc/self/ns/net"}, true, true},
		{join{"network", own + "net"}, true, true},
		{join{"mount", own + "mnt"}, true, true},
		{join{"network", x.Dir + "/net"}, true, true},
		{join{"mount", "/proc/thread-self/ns/mnt"}, true, true},
		{join{"ipc", x.Dir + "/file"}, false, true},
		{join{"ipc", x.Dir + "/gone"}, false, false},
		{join{"ipc", "/proc/self/../1/ns/gone"}, true, true}, // the runtime's own namespace never counts as another
	} {
		if hosts, known := x.host.hostsNamespace(test.join); hosts != test.hosts || known != test.known {
			t.Errorf("%s %s: %t, %t", test.kind, test.path, hosts, known)
		}
	}
}

func TestNamespaces(t *testing.T) {
	x := newTree(t)
	c := config(t, "docker")
	add("linux.namespaces", map[string]any{"type": "uts", "path": "/proc/self/ns/uts"})(c)
	add("linux.namespaces", map[string]any{"type": "ipc", "path": x.Dir + "/gone"})(c)
	spec, err := launch.Parse(encode(t, c), "docker")
	if err != nil {
		t.Fatal(err)
	}
	if got := x.host.Namespaces(spec); !slices.Equal(got, []string{"uts"}) {
		t.Error(got)
	}
}
