package daemon

import (
	"crypto/sha512"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// attackers fills a directory that containers get as a volume, and returns the
// bytes of the smuggled program.
func attackers(t *testing.T) (volume string, intruder []byte) {
	t.Helper()
	volume = t.TempDir()
	intruder = append(fileOf(t, "busybox"), "intruder"...)
	for name, b := range map[string][]byte{
		"busybox-intruder": intruder,
		"true":             fileOf(t, "/bin/true"),
		"ld.so":            fileOf(t, "/lib64/ld-linux-x86-64.so.2"),
		"libc.so.6":        fileOf(t, "/lib/x86_64-linux-gnu/libc.so.6"),
	} {
		if err := os.WriteFile(filepath.Join(volume, name), b, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", "build", "-o", filepath.Join(volume, "memfd"), "./testdata/memfd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	return volume, intruder
}

func fileOf(t *testing.T, name string) []byte {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path = name
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Skip("left out:", err)
	}
	return b
}

// says reports whether a program of these bytes is among exec events.
func says(all []logs.ExecBody, program []byte) bool {
	digest := rpc.Digest(sha512.Sum384(program))
	return slices.ContainsFunc(all, func(e logs.ExecBody) bool { return e.SHA384 != nil && *e.SHA384 == digest })
}

// Attacks by real containers: each program is in the log, or isn't, as cimad(8)
// documents, and the gate holds no exec of those files on the host.
func TestExecAttacks(t *testing.T) {
	f := gateFixture(t, func(c *config.Config) { c.Exec.Mode = config.ExecMeasure })
	volume, intruder := attackers(t)
	mounts := []string{"--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"}
	busybox, loader, loaded, memfd := fileOf(t, "busybox"), fileOf(t, "/lib64/ld-linux-x86-64.so.2"), fileOf(t, "/bin/true"), fileOf(t, filepath.Join(volume, "memfd"))
	for name, c := range map[string]struct {
		flags        []string
		script       string
		seen, unseen []byte
	}{
		"none":                 {nil, `/bin/busybox cp /volume/busybox-intruder / && /busybox-intruder true`, intruder, nil},
		"from a volume":        {nil, `/volume/busybox-intruder true`, busybox, intruder},
		"chroot into a volume": {nil, `/bin/busybox chroot /volume /busybox-intruder true`, busybox, intruder},
		"bind mount over a program after unshare": {mounts,
			`/bin/busybox unshare -m /bin/busybox sh -c '/bin/busybox mount --bind /volume/busybox-intruder /bin/busybox && /bin/busybox true'`, busybox, intruder},
		"memfd":      {nil, `/bin/busybox cp /volume/memfd / && /memfd /volume/busybox-intruder true`, memfd, intruder},
		"the loader": {nil, `/bin/busybox cp /volume/ld.so /volume/true / && /ld.so --library-path /volume /true`, loader, loaded},
	} {
		t.Run(name, func(t *testing.T) {
			id := f.shell(append([]string{"-v", volume + ":/volume:ro"}, c.flags...)...)
			if out, err := inside(id, c.script); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if out, err := exec.Command(filepath.Join(volume, "busybox-intruder"), "true").CombinedOutput(); err != nil {
				t.Errorf("on the host: %v: %s", err, out)
			}
			all := f.execsOf(id)
			if !says(all, c.seen) || says(all, c.unseen) {
				t.Errorf("seen %t, unseen %t in %+v", says(all, c.seen), says(all, c.unseen), all)
			}
			for _, e := range all {
				if e.Missed != "" || e.Writable {
					t.Errorf("without a digest: %+v", e)
				}
			}
			f.wantAuthentic(evidenceFrom(t, id))
		})
	}
}
