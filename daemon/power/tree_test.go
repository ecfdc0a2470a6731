package power

import (
	"os"
	"path/filepath"
	"strings"
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

// dockerID is that of docker's bundle.
var dockerID = strings.Repeat("a1", 32)

// tree is a host's files.
type tree struct {
	*launchtest.Tree
	host Host
}

// newTree makes a host whose root is the tester.
func newTree(t *testing.T) *tree {
	t.Helper()
	return &tree{launchtest.NewTree(t), Host{RootUID: uint32(os.Getuid())}}
}

// makeHost makes a host's file tree below the tree.
func (x *tree) makeHost() string {
	x.Helper()
	x.host.Root = x.Host()
	return x.host.Root
}

// facts reads a bundle.
func (x *tree) facts(c map[string]any, id, runtime string) Facts {
	x.Helper()
	spec, err := launch.Parse(encode(x, c), runtime)
	if err != nil {
		x.Fatal(err)
	}
	l, err := launch.Normalise(spec, id, launch.Rules{}, launch.Known{})
	if err != nil {
		x.Fatal(err)
	}
	return Of(spec, l, id, filepath.Join(x.Dir, "task", id)).InCgroup(spec.Linux.CgroupsPath, func(string) bool { return false })
}

// classes are those that a bundle shows.
func (x *tree) classes(c map[string]any, id, runtime string) []string {
	x.Helper()
	return x.facts(c, id, runtime).Classes()
}
