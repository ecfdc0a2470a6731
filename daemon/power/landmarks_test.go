package power

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// Symlinks, and directories that are a part of the host under another name,
// don't hide what they are.
func TestPowerByAnotherName(t *testing.T) {
	x := newTree(t)
	x.Symlink("/etc", filepath.Join(x.Dir, "harmless"))
	x.Symlink("/", filepath.Join(x.Dir, "slash"))
	x.Symlink("/usr/share", filepath.Join(x.Dir, "below"))
	for source, want := range map[string]string{"/harmless": "mount:/etc", "/harmless/ssh/..": "mount:/etc", "/slash": "mount:/", "/below": "mount:/usr"} {
		x.bundle(id(1), "/docker/"+id(1), add("mounts", mount("/x", "bind", x.Dir+source, "rbind")))
		if power := x.judge(id(1)); !slices.Contains(power, want) {
			t.Errorf("%s: %v", source, power)
		}
	}
}

// Neither does a volume whose driver mounts a part of the host.
func TestPowerByAnotherMount(t *testing.T) {
	if os.Getuid() != 0 {
		skipUnavailable(t, "needs root: mounts a directory")
	}
	volume := t.TempDir()
	seen := make(chan []string)
	go func() {
		defer close(seen)
		runtime.LockOSThread() // never unlocked, so that the thread ends with its namespace
		if unix.Unshare(unix.CLONE_FS|unix.CLONE_NEWNS) != nil ||
			unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") != nil ||
			unix.Mount("/etc", volume, "", unix.MS_BIND, "") != nil {
			return
		}
		h := Host{}
		marks := h.landmarks("")
		seen <- slices.Concat(h.judge(bind{source: volume}, marks).classes, h.judge(bind{source: volume + "/ssl"}, marks).classes)
	}()
	if same := <-seen; len(same) != 2 || same[0] != "mount:/etc" || same[1] != "mount:/etc" {
		t.Error(same)
	}
}

// "ro" applies to the topmost mount of a recursive bind; mounts below it can be
// written, unless the mount is recursively read-only (docker 25).
func TestPowerBelowAReadOnlyMount(t *testing.T) {
	x := newTree(t)
	for _, tt := range []struct {
		options []any
		want    bool
	}{
		{[]any{"rbind", "ro"}, true},
		{[]any{"rbind", "rro"}, false},
		{[]any{"rbind", "ro", "rro"}, false},
		{[]any{"bind", "ro"}, false},
	} {
		m := mount("/h", "bind", "/", "x")
		m["options"] = tt.options
		x.bundle(id(1), "/docker/"+id(1), add("mounts", m))
		power := x.judge(id(1))
		if got := slices.Contains(power, "mount:/proc"); got != tt.want {
			t.Errorf("%v: %v", tt.options, power)
		}
		if slices.Contains(power, "mount:/") {
			t.Errorf("%v can write /: %v", tt.options, power)
		}
	}
}
