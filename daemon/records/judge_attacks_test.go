package records

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/packaging/test/engine"
)

// has fails the test unless a container has all these classes.
func (x *judged) has(t testing.TB, id string, want ...string) {
	t.Helper()
	got, _ := x.judge(t, id)
	for _, class := range want {
		if !slices.Contains(got, class) {
			t.Errorf("%s: %v lacks %s", x.Name, got, class)
		}
	}
}

// An engine's file is one by its own name, in the container's own directory: another
// container's, mounted where the engine mounts them, is none (ATTACKS, P2).
func TestJudgeFilesOfOthers(t *testing.T) {
	x := newJudged(t, engine.Docker)
	other := x.run(t)
	dir := "/var/lib/docker/containers/" + other
	x.has(t, x.run(t, "-v", dir+"/hostconfig.json:/etc/hosts"), "host-write:/var")
	x.has(t, x.run(t, "-v", dir+"/hosts:/etc/hosts:ro"), "host-read:/var")
	x.has(t, x.run(t, "-v", "/var/lib/docker/containers:/x:ro"), "host-read:/var")
	x.has(t, x.run(t, "-v", "/run/docker/containerd:/x:ro"), "host-read:/run")
	x.want(t, nil, "--network", "container:"+other)
	x.has(t, x.run(t, "--network", "container:"+other, "-v", dir+"/config.v2.json:/etc/resolv.conf:ro"), "host-read:/var")

	p := newJudged(t, engine.Podman)
	other = p.run(t)
	dir = "/var/lib/containers/storage/overlay-containers/" + other + "/userdata"
	p.has(t, p.run(t, "-v", dir+":/run/secrets:ro"), "host-read:/var")
	p.has(t, p.run(t, "-v", dir+"/config.json:/etc/hosts"), "host-write:/var")
	// Podman notes in its database alone that it is the other's network, unless that one has
	// a hosts file for both.
	p.want(t, []string{"joined:network"}, "--network", "container:"+other)
}

// Namespaces are told by their inodes, whatever path led there.
func TestJudgeNamespacesOfOthers(t *testing.T) {
	engines(t, func(t *testing.T, x *judged) {
		other := x.run(t)
		x.want(t, []string{"joined:pid"}, "--pid", "container:"+other)
		x.want(t, []string{"namespace:pid"}, "--pid", "host")
		x.want(t, []string{"namespace:uts"}, "--uts", "host")
		x.has(t, x.run(t, "--network", "host"), "namespace:network", "mount:sysfs")
		x.has(t, x.run(t, "--ipc", "host"), "namespace:ipc", "host-write:/dev")
		if x.Name == "podman" {
			pid, err := x.Do(t.Context(), "", "inspect", "--format", "{{.State.Pid}}", other)
			if err != nil {
				t.Fatal(err)
			}
			x.want(t, []string{"joined:network"}, "--network", "ns:/proc/"+pid+"/ns/net")
			x.want(t, []string{"mount:sysfs", "namespace:network"}, "--network", "ns:/proc/self/ns/net")
		}
	})
}

// What containers of one pod share has no class.
func TestJudgePod(t *testing.T) {
	x := newJudged(t, engine.Podman)
	if err := x.Import(t.Context(), "localhost/cima-pause:1", engine.NewImage().File("/bin/busybox", "/bin/busybox")); err != nil {
		t.Fatal(err)
	}
	pod, err := x.Do(t.Context(), "", "pod", "create", "--infra-image", "localhost/cima-pause:1", "--infra-command", "/bin/busybox sleep 1000", "--network", "none")
	if err != nil {
		skipUnavailable(t, err.Error())
	}
	t.Cleanup(func() { x.Do(t.Context(), "", "pod", "rm", "-f", "-t", "0", pod) })
	id := x.run(t, "--pod", pod)
	if got, _ := x.judge(t, id); len(got) > 0 {
		t.Errorf("%v", got)
	}
}

// A descriptor that podman hands over is in no bundle.
func TestJudgeHandedOver(t *testing.T) {
	x := newJudged(t, engine.Podman)
	dir, err := os.Open("/etc")
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	c := x.Command(t.Context(), "run", "-d", "--network", "none", "--preserve-fds", "1", judgedImage, "/bin/busybox", "sleep", "1000")
	c.ExtraFiles = []*os.File{dir}
	out, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	id := strings.TrimSpace(string(out))
	t.Cleanup(func() { x.remove(id) })
	if got, _ := x.judge(t, id); !slices.Equal(got, []string{"descriptor"}) {
		t.Errorf("%v", got)
	}
}

// Volumes are one by their place. One whose driver mounts something else isn't.
func TestJudgeVolumes(t *testing.T) {
	engines(t, func(t *testing.T, x *judged) {
		name := "cima-volume-of-" + x.Name
		if _, err := x.Do(t.Context(), "", "volume", "create", "--opt", "type=none", "--opt", "o=bind", "--opt", "device=/etc/ssl", name); err != nil {
			t.Fatal(err)
		}
		id := x.run(t, "-v", name+":/v")
		got, v := x.judge(t, id)
		if !slices.Equal(got, []string{"host-write:/etc"}) {
			t.Errorf("a volume that is /etc/ssl: %v", got)
		}
		if i := slices.IndexFunc(v.Mounted, func(m mounted) bool { return m.Destination == launch.Text("/v") }); i < 0 || v.Mounted[i].Place != launch.Text("/etc/ssl") {
			t.Errorf("where it leads: %v", v.Mounted)
		}
		hex := strings.Repeat("ab", 32)
		x.want(t, nil, "-v", hex+":/v", "-v", "/w")
	})
}

// Links and odd paths lead where they lead, and the mounted event says where.
func TestJudgeWhereItLeads(t *testing.T) {
	dir := "/srv/cima-links"
	onDisk(t, dir)
	place(t, dir+"/real dir")
	for link, to := range map[string]string{"etc": "/etc", "real-link": dir + "/real", "root": "/"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	x := newJudged(t, engine.Docker)
	for source, test := range map[string]struct{ class, at string }{
		dir + "/etc":       {"host-write:/etc", "/etc"},
		dir + "/real-link": {"", dir + "/real"},
		dir + "/root":      {"host-write:/", "/"},
		dir + "/real":      {"", ""},
	} {
		got, v := x.judge(t, x.run(t, "-v", source+":/v"))
		if test.class == "" && len(got) > 0 || test.class != "" && !slices.Contains(got, test.class) {
			t.Errorf("%s: %v, want %s", source, got, test.class)
		}
		i := slices.IndexFunc(v.Mounted, func(m mounted) bool { return m.Destination == launch.Text("/v") })
		switch {
		case test.at == "" && i >= 0:
			t.Errorf("%s: mounted at %v", source, v.Mounted[i])
		case test.at != "" && (i < 0 || v.Mounted[i].Place != launch.Text(test.at)):
			t.Errorf("%s: %v, want %s", source, v.Mounted, test.at)
		}
	}
}

// What is bound beyond directories: a namespace, a cgroup, a device, an overlay.
func TestJudgeOddMounts(t *testing.T) {
	engines(t, func(t *testing.T, x *judged) {
		place(t, "/run/netns-"+x.Name)
		at := "/run/netns-" + x.Name
		if err := unix.Mount("/proc/self/ns/net", at, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Unmount(at, unix.MNT_DETACH) })
		x.has(t, x.run(t, "-v", at+":/x:ro"), "mount:nsfs")
		x.has(t, x.run(t, "-v", "/dev/kmsg:/x:ro"), "special-file:/dev")
		x.has(t, x.run(t, "-v", "/sys/fs/cgroup:/x:ro"), "mount:cgroup")
		x.want(t, nil, "-v", "/dev/null:/x")
		x.want(t, []string{"device:c:10:229"}, "--device", "/dev/fuse")
		x.want(t, nil, "--device", "/dev/full:/dev/foo")
		x.has(t, x.run(t, "--security-opt", "seccomp=unconfined"), "unconfined:seccomp")
		x.want(t, []string{"capability:CAP_SYS_PTRACE"}, "--cap-add", "SYS_PTRACE")
		if x.Name == "podman" {
			onDisk(t, "/srv/cima-overlay")
			x.has(t, x.run(t, "-v", "/srv/cima-overlay:/x:O"), "mount:overlay", "mount-option")
			x.has(t, x.run(t, "--security-opt", "unmask=ALL"), "unconfined:paths")
			x.has(t, x.run(t, "--annotation", "run.oci.systemd.force_cgroup_v1=/x"), "annotation:run.oci.*")
		}
	})
}

// A path that somebody swaps while the container is made: the verdict is about what the
// container sees.
func TestJudgeSwapped(t *testing.T) {
	const starts = 16
	dir := "/srv/cima-swapped"
	onDisk(t, dir)
	place(t, dir+"/a dir", dir+"/a/mark")
	if err := os.Symlink("/etc", dir+"/b"); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				unix.Renameat2(unix.AT_FDCWD, dir+"/a", unix.AT_FDCWD, dir+"/b", unix.RENAME_EXCHANGE)
			}
		}
	}()
	defer func() { close(stop); <-done }()
	x := newJudged(t, engine.Docker)
	seen := make(map[bool]int)
	for range starts {
		id, err := x.Do(t.Context(), "", "run", "-d", "--network=none", "-v", dir+"/a:/v", judgedImage, "/bin/busybox", "sleep", "1000")
		if err != nil {
			continue // the path was gone for a moment
		}
		got, _ := x.judge(t, id)
		_, err = x.Do(t.Context(), "", "exec", id, "/bin/busybox", "test", "-e", "/v/mark")
		etc := err != nil
		if slices.Contains(got, "host-write:/etc") != etc {
			t.Errorf("it sees /etc: %t; verdict %v", etc, got)
		}
		seen[etc]++
		x.remove(id)
	}
	t.Log(fmt.Sprint("saw /etc: ", seen[true], ", data: ", seen[false]))
	if seen[true]+seen[false] == 0 {
		t.Error("nothing started")
	}
}

// A root file system is one by where its engine keeps it. Another container's, or a
// directory of the host's, is judged like a mount.
func TestJudgeRoot(t *testing.T) {
	x := newJudged(t, engine.Podman)
	other := x.record(t, x.run(t)).RootPath
	onDisk(t, "/srv/cima-root")
	place(t, "/srv/cima-root/bin dir")
	program, err := os.ReadFile("/bin/busybox")
	if err == nil {
		err = os.WriteFile("/srv/cima-root/bin/busybox", program, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"proc", "sys", "dev", "run", "etc"} {
		place(t, "/srv/cima-root/"+dir+" dir")
	}
	for root, want := range map[string][]string{other: {"host-write:/var"}, "/srv/cima-root": nil} {
		id, err := x.Do(t.Context(), "", "run", "-d", "--network=none", "--rootfs", root, "/bin/busybox", "sleep", "1000")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { x.remove(id) })
		if got, _ := x.judge(t, id); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", root, got, want)
		}
	}
	if _, err := x.Do(t.Context(), "hunter2", "secret", "create", "cima-secret", "-"); err != nil {
		t.Fatal(err)
	}
	x.want(t, nil, "--secret", "cima-secret")
	x.want(t, nil, "--tz", "UTC")
}
