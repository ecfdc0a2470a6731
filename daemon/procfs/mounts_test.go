package procfs

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestParseMounts(t *testing.T) {
	const text = `27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
42 27 254:4096 /a\040b /v\011x rw shared:2 master:1 - ext4 /dev/vda rw
43 42 0:50 / /m rw - overlay overlay rw,lowerdir=/l,upperdir=/u\134054v\040w,workdir=/w
44 42 0:51 / /a\134040b ro - overlay overlay ro,lowerdir=/l:/k
45 44 0:51 / /r ro,noatime - overlay overlay rw
`
	got, err := parseMounts([]byte(text))
	want := []Mount{
		{27, 1, unix.Mkdev(254, 0), "/", "/", false, 0, "ext4", "rw,discard"},
		{42, 27, unix.Mkdev(254, 4096), "/a b", "/v\tx", false, 2, "ext4", "rw"},
		{43, 42, unix.Mkdev(0, 50), "/", "/m", false, 0, "overlay", `rw,lowerdir=/l,upperdir=/u\134054v\040w,workdir=/w`},
		{44, 42, unix.Mkdev(0, 51), "/", `/a\040b`, true, 0, "overlay", "ro,lowerdir=/l:/k"},
		{45, 44, unix.Mkdev(0, 51), "/", "/r", true, 0, "overlay", "rw"},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
	for _, bad := range []string{
		"27 1\n", "x 1 254:0 / / rw - ext4 /dev/vda rw\n", "27 1 254:0 / / rw - ext4\n", "27 1 254:0 / / rw ext4 x rw\n",
		"27 y 254:0 / / rw - ext4 /dev/vda rw\n", "27 1 254:0 / / rw shared:x - ext4 /dev/vda rw\n",
		"27 1 254 / / rw - ext4 /dev/vda rw\n", "27 1 x:0 / / rw - ext4 /dev/vda rw\n",
	} {
		if _, err := parseMounts([]byte(bad)); err == nil {
			t.Errorf("taken: %s", bad)
		}
	}
}

func FuzzParseMounts(f *testing.F) {
	f.Add([]byte("43 42 0:50 / /m rw - overlay overlay rw,upperdir=/u\\134054v\\040w\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := parseMounts(text)
		if err != nil && all != nil {
			t.Error("mounts and an error")
		}
		for _, m := range all {
			if len(m.Root)+len(m.Point)+len(m.Options) > len(text) {
				t.Error("longer than what was read")
			}
		}
	})
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{
		`/a\040b`: "/a b", `\134`: `\`, `\134040`: `\040`, `\999`: `\999`, `\04`: `\04`, "": "", `a\`: `a\`, `\011\012`: "\t\n",
	} {
		if got := Unescape(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// The device of a mount is the one that stat(2) returns for a file in it.
func TestMounts(t *testing.T) {
	all, err := Mounts("/proc/self")
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.Open("/proc")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	mount, err := mountID(int(root.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	id, err := Stat(int(root.Fd()), ".")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if m.ID == mount {
			if m.Device != id.Device || m.Point != "/proc" || m.Type != "proc" {
				t.Errorf("%+v, and stat shows device %d", m, id.Device)
			}
			return
		}
	}
	t.Errorf("no mount has the id %d of /proc", mount)
}
