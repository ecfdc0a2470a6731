package power

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/procfs"
)

// volumeTest is a docker volume, to be mounted as a volume driver would.
type volumeTest struct{ volume, dir string }

func (v volumeTest) bind(source string) error {
	if err := os.MkdirAll(source, 0o755); err != nil {
		return err
	}
	return unix.Mount(source, v.volume, "", unix.MS_BIND, "")
}

func (v volumeTest) overlay(upper, work string) error {
	for _, d := range []string{upper, work, v.dir + "/lower"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	return unix.Mount("overlay", v.volume, "overlay", 0, "lowerdir="+v.dir+"/lower,upperdir="+upper+",workdir="+work)
}

// classes are those of a container with the volume, mounted by mount in a mount
// namespace of the test's own, where /etc/cron.d is a tmpfs.
func (v volumeTest) classes(mount func(volumeTest) error) ([]string, error) {
	type judged struct {
		powers []string
		err    error
	}
	seen := make(chan judged)
	go func() {
		runtime.LockOSThread() // never unlocked, so that the thread ends with its namespace
		err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			err = unix.Mount("shadow", "/etc/cron.d", "tmpfs", 0, "")
		}
		if err == nil {
			err = mount(v)
		}
		h := Host{}
		seen <- judged{h.judge(bind{source: v.volume, ofEngine: true, ids: []string{"", "mypod"}}, h.landmarks(v.dir+"/docker")).classes, err}
	}()
	got := <-seen
	return distinct(got.powers), got.err
}

// A volume whose driver mounts a part of the host gives that part; an engine's
// own files don't become the container's own through such a volume.
func TestPowerOfAVolumeOfTheHosts(t *testing.T) {
	if os.Getuid() != 0 {
		skipUnavailable(t, "needs root: mounts")
	}
	of := func(kind string) func(volumeTest) error {
		return func(v volumeTest) error { return unix.Mount("x", v.volume, kind, 0, "") }
	}
	to := func(source string) func(volumeTest) error {
		return func(v volumeTest) error { return v.bind(source) }
	}
	for name, test := range map[string]struct {
		mount func(volumeTest) error
		want  []string // lacks none of these, or has none at all
	}{
		"nothing":           {func(volumeTest) error { return nil }, nil},
		"of its own":        {of("tmpfs"), nil},
		"other files":       {func(v volumeTest) error { return v.bind(v.dir + "/srv/data") }, nil},
		"below etc":         {to("/etc/ssl"), []string{"mount:/etc"}},
		"mounted below etc": {to("/etc/cron.d"), []string{"mount:/etc"}},
		"below that":        {to("/etc/cron.d/x"), []string{"mount:/etc"}},
		"below usr":         {to("/usr/share/doc"), []string{"mount:/usr"}},
		"below sys":         {to("/sys/kernel"), []string{"mount:/sys"}},
		"below proc":        {to("/proc/sys/kernel"), []string{"mount:/proc"}},
		"storage":           {func(v volumeTest) error { return v.bind(v.dir + "/docker/overlay2") }, []string{"engine-storage"}},
		"of its pod":        {func(v volumeTest) error { return v.bind(v.dir + "/docker/pods/mypod/x") }, nil},
		"of another pod":    {func(v volumeTest) error { return v.bind(v.dir + "/docker/pods/other/x") }, []string{"engine-storage"}},
		"sysfs":             {of("sysfs"), []string{"mount:/sys"}},
		"proc":              {of("proc"), []string{"mount:/proc"}},
		"securityfs":        {of("securityfs"), []string{"mount:/sys"}},
		"debugfs":           {of("debugfs"), []string{"mount:/sys"}},
		"writes to etc":     {func(v volumeTest) error { return v.overlay("/etc/cron.d/x", "/etc/cron.d/work") }, []string{"mount:/etc"}},
		"writes to a layer": {func(v volumeTest) error { return v.overlay(v.dir+"/docker/overlay2/x", v.dir+"/work") }, []string{"engine-storage"}},
		"the engine's own":  {func(v volumeTest) error { return v.overlay(v.dir+"/docker/volumes/v/upper", v.dir+"/work") }, nil},
		"upon itself":       {func(v volumeTest) error { return v.overlay(v.volume, v.dir+"/work") }, []string{"unresolved-mount"}},
	} {
		dir := t.TempDir()
		v := volumeTest{filepath.Join(dir, "docker/volumes/v/_data"), dir}
		if err := os.MkdirAll(v.volume, 0o755); err != nil {
			t.Fatal(err)
		}
		got, err := v.classes(test.mount)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, class := range test.want {
			if !slices.Contains(got, class) {
				t.Errorf("%s: %v lacks %s", name, got, class)
			}
		}
		if len(test.want) == 0 && len(got) > 0 {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestUpperOf(t *testing.T) {
	for _, test := range []struct {
		mount procfs.Mount
		want  string
	}{
		{procfs.Mount{Type: "overlay", Options: `rw,lowerdir=/l,upperdir=/u\134054v\040w,workdir=/w`}, "/u,v w"},
		{procfs.Mount{Type: "overlay", Options: "ro,lowerdir=/l:/k"}, ""},
		{procfs.Mount{Type: "ext4", Options: "rw,upperdir=/u"}, ""},
	} {
		if got := upperOf(test.mount); got != test.want {
			t.Errorf("%v: %q", test.mount, got)
		}
	}
}

// Mounts that a specification requests from the runtime itself.
func TestPowerOfOtherFileSystems(t *testing.T) {
	x := newTree(t)
	x.makeHost()
	for name, test := range map[string]struct {
		mount map[string]any
		want  []string
	}{
		"overlay":           {mount("/o", "overlay", "overlay", "lowerdir=/srv/data", "upperdir=/etc/ssh", "workdir=/srv/w"), []string{"mount:/etc"}},
		"overlay of others": {mount("/o", "overlay", "overlay", "lowerdir=/srv/data", "upperdir=/var/lib/docker/containers/x"), []string{"engine-storage"}},
		"overlay, no layer": {mount("/o", "overlay", "overlay", "lowerdir=/srv/data:/etc"), nil},
		"disk":              {mount("/d", "ext4", "/dev/vda"), []string{"unresolved-mount"}},
		"disk, read-only":   {mount("/d", "ext4", "/dev/vda", "ro"), nil},
		"configfs":          {mount("/d", "configfs", "c"), []string{"mount:/sys"}},
		"tmpfs":             {mount("/d", "tmpfs", "t"), nil},
	} {
		x.bundle(id(1), "/docker/"+id(1), add("mounts", test.mount))
		if got := x.judge(id(1)); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, not %v", name, got, test.want)
		}
	}
}
