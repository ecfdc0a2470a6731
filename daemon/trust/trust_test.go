package trust

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/launch/launchtest"
)

// A known file is checked again without following a link that a user could have
// put in its place.
func TestUnchanged(t *testing.T) {
	x := launchtest.NewTree(t)
	x.Write("a/b/config.json", []byte("{}"))
	dir := filepath.Join(x.Dir, "a/b")
	file := filepath.Join(dir, "config.json")
	var st unix.Stat_t
	if err := unix.Lstat(file, &st); err != nil {
		t.Fatal(err)
	}
	then := stamp(&st)
	for _, owner := range []uint32{0, 1000} {
		if !Unchanged(file, then, owner) {
			t.Errorf("uid %d: the same file counts as changed", owner)
		}
		other := then
		other.changed++
		if Unchanged(file, other, owner) || Unchanged(file+"x", then, owner) {
			t.Errorf("uid %d: another file counts as unchanged", owner)
		}
	}
	if err := os.Rename(dir, dir+"-real"); err != nil {
		t.Fatal(err)
	}
	x.Symlink(dir+"-real", dir)
	if Unchanged(file, then, 1000) {
		t.Error("a user's symlink was followed")
	}
}
