package daemon

import (
	"bytes"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/config"
)

// attack is a container that has power over the guest or over another container, and one
// beside it, which asks for much the same and has none.
type attack struct {
	row     string // what it tries; those that once worked are always run, the others with -whole
	line    string // {name} stands for something of the scene
	classes string // what must be announced, and nothing else; see wantClasses
	beside  string // "": nothing that is like it
}

// refused says that the kernel or the runtime refuses: nothing has run.
const refused = "refused"

// attacks are lines of docker's and podman's: "docker run FLAGS"; an image and a command
// follow.
var attacks = []attack{
	// Those that worked once: the host's processes.
	{"P1: processes, read-only", "docker run -v /proc:/hp:ro", "mount:proc", "docker run -v {srv}/data:/hp:ro"},
	{"P1: one process, read-only", "docker run -v /proc/{vpid}:/hp:ro", "mount:proc", "docker run -v {srv}/data:/hp:ro"},
	{"P1: podman", "podman run -v /proc:/hp:ro", "mount:proc", "podman run -v {srv}/data:/hp:ro"},
	{"P1: podman, one process", "podman run -v /proc/{vpid}:/hp:ro", "mount:proc", "podman run -v {srv}/data:/hp:ro"},
	{"P1: memory of one process", "docker run -v /proc/{vpid}/mem:/m:ro", "mount:proc", ""},
	{"P1: root of a process", "docker run -v /proc/1/root:/x:ro", refused, "docker run -v {srv}/data:/x:ro"},
	{"P1: working directory of a process", "docker run -v /proc/1/cwd:/x:ro", refused, ""},
	{"P1: a namespace's file", "docker run -v /proc/{vpid}/ns/net:/n", "mount:nsfs", ""},

	// Files of an engine's.
	{"P2: another's configuration as /etc/hosts", "docker run -v {docker}/containers/{victim}/hostconfig.json:/etc/hosts", "host-write:/var", "docker run --add-host a:1.2.3.4"},
	{"P2: another's hosts", "docker run -v {docker}/containers/{victim}/hosts:/etc/hosts", "host-write:/var", "docker run --hostname h"},
	{"P2: another's shared memory", "docker run -v {docker}/containers/{victim}/mounts/shm:/dev/shm", "host-write:/var", "docker run --shm-size 8m"},
	{"P2: podman, another's .containerenv", "podman run -v /run/containers/storage/overlay-containers/{pvictim}/userdata/.containerenv:/run/.containerenv", "host-write:/run", "podman run --add-host a:1.2.3.4"},
	{"P2: podman, another's directory", "podman run -v {userdata}/{pvictim}/userdata:/x:ro", "host-read:/var …", "podman run --hostname h"},
	{"P2: another's root file system", "docker run -v {merged}:/x", "host-write:/var", ""},
	{"P2: another's upper directory, read-only", "docker run -v {upper}:/x:ro", "host-read:/var", ""},
	{"P2: what an engine stores", "docker run -v {docker}:/d:ro", "host-read:/var …", ""},

	// Sockets, FIFOs, devices.
	{"P3: sockets of shims", "docker run -v /run/containerd/s:/x:ro", "host-read:/run", "docker run --tmpfs /x"},
	{"P3: one of the sockets", "docker run -v {shim}:/x:ro", "special-file:/run", ""},
	{"P3: directory of FIFOs", "docker run -v /run/docker/containerd:/x", "host-write:/run", "docker run --tmpfs /x"},
	{"P4: docker's socket", "docker run -v /run/docker.sock:/x.sock:ro", "special-file:/run", ""},
	{"P4: docker's socket for a group", "docker run -u 1000 --group-add 999 -v /var/run/docker.sock:/x.sock:ro", "special-file:/run", "docker run -u 1000 --group-add 999"},
	{"P4: podman, docker's socket", "podman run -v /run/docker.sock:/x.sock:ro", "special-file:/run", ""},
	{"P4: a socket somewhere", "docker run -v {dir}/sockets/x.sock:/x.sock:ro", "special-file:/tmp", ""},
	{"P4: a directory with a socket", "docker run -v {dir}/sockets:/x:ro", "host-read:/tmp", ""},
	{"P4: declared data with a socket", "docker run -v {srv}/socket:/x:ro", "data-with-sockets", "docker run -v {srv}/data:/x:ro"},
	{"P4: a FIFO", "docker run -v {dir}/fifo:/x:ro", "special-file:/tmp", ""},
	{"P4: a disk, bound", "docker run -v {disk}:/x:ro", "special-file:/dev", "docker run -v /dev/null:/x"},

	// Places that nobody listed.
	{"P5: what systemd reads", "docker run -v /run/tmpfiles.d:/x", "host-write:/run", "docker run -v {srv}/data:/x"},
	{"P5: users' runtime directories", "docker run -v /run/user:/x", "host-write:/run", "docker run -v {srv}/data:/x"},
	{"P5: homes", "docker run -v /home:/x", "host-write:/home", "docker run -v {srv}/data:/x"},
	{"P5: podman, homes", "podman run -v /home:/x", "host-write:/home", "podman run -v {srv}/data:/x"},
	{"P5: /opt", "docker run -v /opt:/x", "host-write:/opt", "docker run -v {srv}/data:/x"},
	{"P5: /tmp", "docker run -v /tmp:/x", "host-write:/tmp …", "docker run -v {srv}/data:/x"},
	{"P5: root's home, read-only", "docker run -v /root:/x:ro", "host-read:/root", "docker run -v /usr/share/zoneinfo:/x:ro"},
	{"P5: passwords, read-only", "docker run -v /etc/shadow:/x:ro", "host-read:/etc", "docker run -v /etc/passwd:/x:ro"},
	{"P5: /etc, read-only", "docker run -v /etc:/x:ro", "host-read:/etc", "docker run -v /etc/ssl/certs:/x:ro"},
	{"P5: a usual file, writable", "docker run -v /etc/os-release:/x", "host-write:/usr", "docker run -v /etc/os-release:/x:ro"},
	{"P5: programs", "docker run -v /usr/local/bin:/x", "host-write:/usr", "docker run -v /usr/share/zoneinfo:/x:ro"},
	{"P5: a link to /etc", "docker run -v {dir}/link:/x", "host-write:/etc", "docker run -v {srv}/data:/x"},
	{"P5: the whole, without what is mounted below", "docker run --mount type=bind,src=/,dst=/x,bind-nonrecursive", "host-write:/", "docker run -v {srv}/data:/x"},
	{"P5: shared memory", "docker run -v /dev/shm:/x", "host-write:/dev", "docker run --tmpfs /x"},
	{"P5: terminals", "docker run -v /dev/pts:/x", "mount:devpts", "docker run -t"},
	{"P5: devices, read-only", "docker run -v /dev:/x:ro", "host-read:/dev mount:devpts …", ""},
	{"P5: the kernel's objects, read-only", "docker run -v /sys:/x:ro", "mount:sysfs …", ""},
	{"P5: part of them", "docker run -v /sys/kernel/mm:/x:ro", "mount:sysfs", ""},
	{"P5: cgroups", "docker run -v {cgroups}:/x", "{cgroup}", ""},
	{"P5: cgroups, read-only", "docker run -v {cgroups}:/x:ro", "{cgroup}", ""},

	// What a runtime is told besides the bundle.
	{"P5: podman, no pivot_root", "CONTAINERS_CONF={dir}/pivot.conf podman run", "runtime-option", "podman run --network none"},
	{"P5: podman, its engine's session keyring", "CONTAINERS_CONF={dir}/keyring.conf podman run", "runtime-option", ""},

	// What engines mount by another name than a bind.
	{"volume whose driver binds /etc", "docker run --mount type=volume,src=etc,dst=/x,volume-driver=local,volume-opt=type=none,volume-opt=o=bind,volume-opt=device=/etc", "host-write:/etc", "docker run --mount type=volume,src=plain,dst=/x"},
	{"volume of an overlay", "docker run --mount type=volume,src=over,dst=/x,volume-driver=local,volume-opt=type=overlay,volume-opt=device=overlay,\\\"volume-opt=o=lowerdir=/etc,upperdir={dir}/u,workdir={dir}/w\\\"", "host-write:/var", "docker run -v plain:/x"},
	{"another's mounts", "docker run --volumes-from {mounter}", "host-read:/etc", "docker run --volumes-from {victim}"},
	{"podman, an overlay of data", "podman run -v {srv}/data:/x:O", "mount-option mount:overlay", "podman run -v {srv}/data:/x"},
	{"podman, an overlay of /etc", "podman run -v /etc:/x:O", "mount-option mount:overlay", "podman run -v {srv}/data:/x"},
	{"podman, volume whose driver binds /etc", "podman run -v petc:/x", "host-write:/etc", "podman run -v pplain:/x"},
	{"podman, a directory of the host's as root file system", "podman run --rootfs {rootfs}", "host-write:/tmp", ""},
	{"P2: podman, another's root file system", "podman run --rootfs {pcreated}", "host-write:/var", ""},
	{"propagation", "docker run --mount type=bind,src={shared},dst=/x,bind-propagation=rshared", "host-write:/tmp propagation setting:linux.rootfsPropagation", "docker run --mount type=bind,src={srv}/data,dst=/x,bind-propagation=rprivate"},
	{"podman, propagation", "podman run -v {shared}:/x:rshared", "host-write:/tmp propagation setting:linux.rootfsPropagation", "podman run --mount type=devpts,dst=/x"},

	{"a mount below a volume", "docker run -v below:/x", "host-write:/etc", "docker run -v filled:/x"},
	{"processes below declared data", "docker run -v {srv}/proc:/x:ro", "mount:proc", "docker run -v {srv}/data:/x:ro"},
	{"/etc below declared data", "docker run -v {srv}/etc:/x", "host-write:/etc", "docker run -v {srv}/data:/x"},
	{"/etc below declared data, read-only above", "docker run -v {srv}/etc:/x:ro", "host-write:/etc", "docker run -v {srv}/data:/x:ro"},
	{"podman, an overlay that writes to the host's", "podman run -v {srv}/data:/x:O,upperdir={dir}/u,workdir={dir}/w", "mount-option mount:overlay", "podman run -v {srv}/data:/x"},
	{"a device, bound", "docker run -v /dev/fuse:/dev/fuse", "special-file:/dev", "docker run -v /dev/null:/x"},
	{"cima's directory, writable", "docker run -v /run/cima:/run/cima", "host-write:/tmp", "docker run -v /run/cima:/run/cima:ro"},
	{"cima's log", "docker run -v /run/log:/x:ro", "host-read:/run", "docker run --tmpfs /x"},
	{"podman, the caller's files as outputs", "podman run --log-driver passthrough", "descriptor", "podman run --log-driver none"},
	{"podman, a log in a file of the host's", "podman run --log-driver k8s-file --log-opt path={dir}/output", "descriptor", "podman run --log-driver k8s-file"},

	// Namespaces.
	{"the host's network", "docker run --network host", "mount:sysfs namespace:network", "docker run --network none"},
	{"the host's processes", "docker run --pid host", "namespace:pid", "docker run --cgroupns host"},
	{"the host's IPC", "docker run --ipc host", "host-write:/dev namespace:ipc", "docker run --ipc shareable"},
	{"the host's name", "docker run --uts host", "namespace:uts", "docker run --userns host"},
	{"another's IPC", "docker run --ipc container:{victim}", "joined:ipc", "docker run --ipc none"},
	{"another's processes", "docker run --pid container:{victim}", "joined:pid", "docker run --network container:{victim}"},
	{"podman, the host's network", "podman run --network host", "mount:sysfs namespace:network", "podman run --network none"},
	{"podman, the host's by a path", "podman run --pid ns:/proc/1/ns/pid", "namespace:pid", "podman run --cgroupns host"},
	{"podman, another's network by a path", "podman run --network ns:/proc/{pvpid}/ns/net", "joined:network", ""},
	{"podman, docker's network by a path", "podman run --network ns:/proc/{vpid}/ns/net", "joined:network", ""},
	{"podman, another's IPC", "podman run --ipc container:{pvictim}", "joined:ipc", "podman run --ipc private"},
	{"podman, another's processes", "podman run --pid container:{pvictim}", "joined:pid", "podman run --userns host"},
	{"another's cgroup", "docker run --cgroup-parent /docker/{victim}", "cgroup-parent", "docker run --cgroup-parent /elsewhere"},

	// Devices, calls, what the runtime is told.
	{"a device", "docker run --device /dev/fuse", "device:c:10:229", "docker run --device /dev/zero"},
	{"a rule for a device", "docker run --device-cgroup-rule 'c 10:200 rwm'", "device:c:10:200", ""},
	{"podman, a device", "podman run --device /dev/fuse", "device:c:10:229", "podman run --device /dev/null:/dev/x"},
	{"a capability", "docker run --cap-add SYS_MODULE", "capability:CAP_SYS_MODULE", "docker run --cap-drop ALL --cap-add CHOWN"},
	{"podman, a capability", "podman run --cap-add NET_ADMIN", "capability:CAP_NET_ADMIN", "podman run --cap-add NET_RAW"},
	{"no seccomp", "docker run --security-opt seccomp=unconfined", "unconfined:seccomp", "docker run --security-opt no-new-privileges"},
	{"a profile that allows all", "docker run --security-opt seccomp={dir}/all.json", "unconfined:seccomp", ""},
	{"a profile that allows one dangerous call", "docker run --security-opt seccomp={dir}/one.json", "confined:seccomp", ""},
	{"podman, a profile that allows one dangerous call", "podman run --security-opt seccomp={dir}/one.json", "confined:seccomp", ""},
	{"paths", "docker run --security-opt systempaths=unconfined", "unconfined:paths", "docker run --sysctl net.core.somaxconn=1024"},
	{"podman, one path", "podman run --security-opt unmask=/proc/sys", "unconfined:paths", "podman run --security-opt mask=/proc/x"},
	{"podman, labels", "podman run --security-opt label=disable", "unconfined:selinux", "podman run --security-opt no-new-privileges"},
	{"podman, annotation: a filter of its own", "podman run --annotation run.oci.seccomp_bpf_data=AAAA", "unconfined:seccomp", "podman run --annotation a.b=c"},
	{"podman, annotation: another handler", "podman run --annotation run.oci.handler=wasm", "annotation:run.oci.*", "podman run --annotation a.b=c"},
	{"podman, annotation: a unit's properties", "podman run --annotation org.systemd.property.ExecStopPost=x", "annotation:org.systemd.property.*", "podman run --annotation org.systemd.property.Description=x"},
	{"podman, hooks", "podman --hooks-dir {dir}/hooks run", "hook:prestart", "podman run --init=false"},
	{"podman, an open directory", "podman run --preserve-fds 1", "descriptor", "podman run --preserve-fds 0"},

	// What many containers ask for.
	{"read-only", "docker run --read-only", "", "docker run --read-only --tmpfs /tmp"},
	{"a user", "docker run -u 1000", "", "docker run -u 1000:1000 --cap-drop ALL"},
	{"a volume by its path", "docker run -v {docker}/volumes/filled/_data:/x", "", "docker run -v filled:/x"},
	{"anonymous volume", "docker run -v /x", "", "docker run -v filled:/x:ro"},
	{"podman, volumes", "podman run -v /x -v pplain:/y", "", "podman run --mount type=volume,dst=/x"},
	{"podman, read-only", "podman run --read-only", "", "podman run --read-only --read-only-tmpfs=false"},
	{"podman, files", "podman run -v /etc/os-release:/x:ro -v /etc/ssl/certs:/y:ro", "", "podman run -v /etc/localtime:/x:ro"},
	{"podman, time zone", "podman run --tz local", "", "podman run --tz UTC"},
}

// scene is what attacks are about: other containers, and files of the host's.
type scene struct {
	*fixture
	t     *testing.T
	words map[string]string
}

func newScene(t *testing.T, configure ...func(*config.Config)) *scene {
	f := gateFixture(t, configure...)
	podman := podmanCimactl(t)
	s := &scene{fixture: f, t: t, words: map[string]string{
		"docker": "/var/lib/docker", "userdata": "/var/lib/containers/storage/overlay-containers",
		"dir": f.dir, "srv": "/srv", "shared": f.dir + "/shared", "disk": disk(t), "cgroups": "/sys/fs/cgroup/memory", "cgroup": "mount:cgroup", "systemd": "covered:cgroup mount:cgroup", "rootfs": f.rootfs(),
	}}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		s.words["cgroups"], s.words["cgroup"], s.words["systemd"] = "/sys/fs/cgroup", "mount:cgroup2", "mount:cgroup2"
	}
	s.files()
	s.words["victim"] = docker(t, "run", "-d", "-i", "--network", "none", "-v", "filled:/filled", "--ipc", "shareable", testImage, "/cimactl", "evidence", "--nonce", "-")
	t.Cleanup(func() { docker(t, "rm", "-f", s.words["victim"]) })
	s.allowing(s.words["victim"], "bpf")
	s.words["vpid"] = docker(t, "inspect", "--format", "{{.State.Pid}}", s.words["victim"])
	s.words["merged"] = docker(t, "inspect", "--format", "{{.GraphDriver.Data.MergedDir}}", s.words["victim"])
	s.words["upper"] = docker(t, "inspect", "--format", "{{.GraphDriver.Data.UpperDir}}", s.words["victim"])
	s.words["mounter"] = docker(t, "create", "-v", "/etc:/e:ro", testImage, "/cimactl")
	t.Cleanup(func() { docker(t, "rm", "-f", s.words["mounter"]) })
	docker(t, "volume", "create", "below")
	below := "/var/lib/docker/volumes/below/_data/etc"
	if err := errors.Join(os.Mkdir(below, 0o755), unix.Mount("/etc", below, "", unix.MS_BIND, "")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(below, unix.MNT_DETACH); docker(t, "volume", "rm", "below") })
	shims, err := filepath.Glob("/run/containerd/s/*")
	if err != nil || len(shims) == 0 {
		t.Fatalf("no socket of a shim: %v", err)
	}
	s.words["shim"] = shims[0]
	held, err := podman("run", "-d", "-i", "--network", "none", "--ipc", "shareable", podmanImage, "/cimactl", "evidence", "--nonce", "-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { podman("rm", "-f", "-t", "0", held) })
	s.words["pvictim"] = held
	if s.words["pvpid"], err = podman("inspect", "--format", "{{.State.Pid}}", held); err != nil {
		t.Fatal(err)
	}
	created, err := podman("create", podmanImage, "/cimactl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { podman("rm", "-f", created) })
	if s.words["pcreated"], err = podman("mount", created); err != nil {
		t.Fatal(err)
	}
	for _, options := range [][]string{{"pplain"}, {"--opt", "type=none", "--opt", "o=bind", "--opt", "device=/etc", "petc"}} {
		if _, err := podman(append([]string{"volume", "create"}, options...)...); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { podman("volume", "rm", "-f", options[len(options)-1]) })
	}
	return s
}

// disk is a block device of this machine.
func disk(t *testing.T) string {
	t.Helper()
	all, err := filepath.Glob("/sys/class/block/*")
	for _, name := range all {
		if node := "/dev/" + filepath.Base(name); unix.Access(node, unix.F_OK) == nil {
			return node
		}
	}
	t.Fatalf("no block device: %v", err)
	return ""
}

// files makes those that lines name. What is mounted here is seen in the test's
// namespaces alone.
func (s *scene) files() {
	s.t.Helper()
	data := filepath.Join(s.dir, "srv")
	var failed []error
	for _, dir := range []string{data + "/data", data + "/socket", data + "/proc/sub", data + "/etc/sub", "/run/log", s.dir + "/sockets", s.dir + "/shared", s.dir + "/hooks", s.dir + "/u", s.dir + "/w", "/run/tmpfiles.d", "/run/user"} {
		failed = append(failed, os.MkdirAll(dir, 0o755))
	}
	for name, text := range map[string]string{
		"all.json":         `{"defaultAction":"SCMP_ACT_ALLOW"}`,
		"hooks/hook.json":  `{"version":"1.0.0","hook":{"path":"/bin/true"},"when":{"always":true},"stages":["prestart"]}`,
		"srv/data/content": "data",
		"env1":             "PATH=/a\n",
		"env2":             "PATH=/b\n",
	} {
		failed = append(failed, os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o644))
	}
	for name, with := range map[string][2]string{"pivot.conf": {"[engine]\n", "no_pivot_root = true\n"}, "keyring.conf": {"[containers]\n", "keyring = false\n"}} {
		conf, err := os.ReadFile(os.Getenv("CONTAINERS_CONF"))
		text := strings.Replace(string(conf), with[0], with[0]+with[1], 1)
		failed = append(failed, err, os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o644))
	}
	failed = append(failed, os.Symlink("/etc", s.dir+"/link"), unix.Mkfifo(s.dir+"/fifo", 0o644))
	for _, m := range []struct {
		from, at string
		flags    uintptr
	}{{data, "/srv", unix.MS_BIND}, {"proc", "/srv/proc/sub", 0}, {"/etc", "/srv/etc/sub", unix.MS_BIND}, {"tmpfs", s.dir + "/shared", 0}, {"", s.dir + "/shared", unix.MS_SHARED}} {
		kind := ""
		if m.flags == 0 {
			kind = m.from
		}
		failed = append(failed, unix.Mount(m.from, m.at, kind, m.flags, ""))
		if m.flags != unix.MS_SHARED {
			s.t.Cleanup(func() { unix.Unmount(m.at, unix.MNT_DETACH) })
		}
	}
	for _, name := range []string{data + "/socket/x.sock", s.dir + "/sockets/x.sock"} {
		l, err := net.Listen("unix", name)
		failed = append(failed, err)
		if err == nil {
			s.t.Cleanup(func() { l.Close() })
		}
	}
	if err := errors.Join(failed...); err != nil {
		s.t.Fatal(err)
	}
}

// allowing writes a seccomp profile: that of a container, and one call more.
func (s *scene) allowing(id, call string) {
	s.t.Helper()
	raw, err := os.ReadFile("/run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby/" + id + "/config.json")
	if err != nil {
		s.t.Fatal(err)
	}
	profile := decode[struct {
		Linux struct{ Seccomp map[string]any }
	}](s.t, raw).Linux.Seccomp
	strict := mustJSON(s.t, profile)
	strict = bytes.ReplaceAll(strict, []byte(`"sysinfo",`), nil)
	if err := os.WriteFile(s.dir+"/strict.json", strict, 0o644); err != nil {
		s.t.Fatal(err)
	}
	profile["syscalls"] = append(profile["syscalls"].([]any), map[string]any{"names": []string{call}, "action": "SCMP_ACT_ALLOW"})
	if err := os.WriteFile(s.dir+"/one.json", mustJSON(s.t, profile), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// fill puts what the scene has in the place of {name}.
func (s *scene) fill(text string) string {
	for name, word := range s.words {
		text = strings.ReplaceAll(text, "{"+name+"}", word)
	}
	return text
}

// do runs a line with an image and a command.
func (s *scene) do(t *testing.T, line string) (ran, error) {
	t.Helper()
	line = s.fill(line)
	if conf, rest, ok := strings.Cut(line, " "); ok && strings.HasPrefix(conf, "CONTAINERS_CONF=") {
		t.Setenv("CONTAINERS_CONF", strings.TrimPrefix(conf, "CONTAINERS_CONF="))
		line = rest
	}
	var files []*os.File
	if strings.Contains(line, "--preserve-fds 1") || strings.Contains(line, "passthrough") {
		root, err := os.Open("/etc")
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		files = append(files, root)
	}
	image := testImage
	switch {
	case strings.Contains(line, " --rootfs "):
		return s.run(t, line+" /cimactl --version", files...)
	case strings.HasPrefix(line, "podman "):
		image = podmanImage
	}
	return s.run(t, line+" "+image+" /cimactl --version", files...)
}

// Each power over the guest is announced, before the container has run, by the classes
// that one expects; a container beside it that asks for much the same has none, and has
// one launch digest each time.
func TestAttacks(t *testing.T) {
	s := newScene(t)
	besides := make(map[string]bool)
	for _, a := range attacks {
		if worked := a.row[0] == 'P' && a.row[1] < '6' && a.row[1] > '0'; !worked && !*whole {
			continue
		}
		t.Run(a.row, func(t *testing.T) {
			r, err := s.do(t, a.line)
			switch {
			case a.classes == refused && err == nil:
				t.Errorf("it ran: %q", r.classes)
			case a.classes != refused && err != nil:
				t.Error(err)
			case a.classes != refused:
				r.wantClasses(t, s.fill(a.classes))
			}
		})
		if a.beside == "" || besides[a.beside] {
			continue
		}
		besides[a.beside] = true
		t.Run("beside: "+a.beside, func(t *testing.T) { s.twice(t, a.beside, "") })
	}
}

// twice runs a line twice: with these classes, and with equal digests.
func (s *scene) twice(t *testing.T, line, classes string) {
	t.Helper()
	first, err := s.do(t, line)
	second, again := s.do(t, line)
	if err := errors.Join(err, again); err != nil {
		t.Fatal(err)
	}
	first.wantClasses(t, classes)
	second.wantClasses(t, classes)
	if d := first.difference(second); d != "" {
		t.Errorf("%s: two runs differ in %s", line, d)
	}
}
