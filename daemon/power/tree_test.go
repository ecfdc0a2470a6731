package power

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/launch/launchtest"
)

// Short names, for tables that fit the eye.
var (
	config          = launchtest.Config
	encode          = launchtest.Encode
	set             = launchtest.Set
	drop            = launchtest.Drop
	add             = launchtest.Add
	without         = launchtest.Without
	mount           = launchtest.Mount
	id              = launchtest.ID
	skipUnavailable = launchtest.SkipUnavailable
)

type change = launchtest.Change

// tree is a host's files, and containers whose bundles lie there.
type tree struct {
	*launchtest.Tree
	host       Host
	containers map[string]Facts
}

// newTree makes a host whose root is the tester.
func newTree(t *testing.T) *tree {
	t.Helper()
	return &tree{launchtest.NewTree(t), Host{RootUID: uint32(os.Getuid())}, map[string]Facts{}}
}

// makeHost makes a host's file tree below the tree, where containers are judged.
func (x *tree) makeHost() string {
	x.Helper()
	x.host.Root = x.Host()
	return x.host.Root
}

// bundle reads the bundle of a container of docker's. It has not begun.
func (x *tree) bundle(id, cgroup string, changes ...change) {
	x.Helper()
	c := config(x, "docker")
	set("linux.cgroupsPath", cgroup)(c)
	for _, do := range changes {
		do(c)
	}
	x.read(c, id, "docker")
}

// read reads a bundle.
func (x *tree) read(c map[string]any, id, runtime string) {
	x.Helper()
	spec, err := launch.Parse(encode(x, c), runtime)
	if err != nil {
		x.Fatal(err)
	}
	l, err := launch.Normalise(spec, id, launch.Rules{}, launch.Known{HostNamespaces: x.host.Namespaces(spec)})
	if err != nil {
		x.Fatal(err)
	}
	f := Of(x.host, spec, l, id, filepath.Join(x.Dir, "task", id))
	x.containers[id] = f.InCgroup(spec.Linux.CgroupsPath, func(id string) bool { _, ok := x.containers[id]; return ok })
}

// judge returns the power of a container next to the others.
func (x *tree) judge(id string) []string {
	x.Helper()
	power, err := Judge(x.Context(), x.containers[id], func(context.Context) ([]Other, error) {
		var others []Other
		for _, f := range x.containers {
			others = append(others, Other{Facts: f})
		}
		return others, nil
	})
	if err != nil {
		x.Fatal(err)
	}
	return power
}
