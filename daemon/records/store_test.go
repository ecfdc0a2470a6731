package records

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/daemontest"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/power"
	"github.com/cima-project/cima/daemon/trust"
	"github.com/cima-project/cima/logs"
)

func TestDeclaredIsExact(t *testing.T) {
	x := newTree(t)
	x.bundle("moby", id(1), "/docker/"+id(1))
	x.bundle("moby", id(2), "/docker/"+id(1)+"/"+id(2)) // --cgroup-parent /docker/<victim>
	x.bundle("k8s.io", id(3), "kubepods-podx.slice:cri-containerd:"+id(3))
	x.bundle("default", "web", "/default/web")
	x.bundle("default", "odd", "/elsewhere/entirely")
	for path, want := range map[string]string{
		"/docker/" + id(1):               id(1),
		"/docker/" + id(1) + "/" + id(2): id(2),
		"/docker/" + id(1) + "/":         id(1),
		"/kubepods.slice/kubepods-podx.slice/cri-containerd-" + id(3) + ".scope": id(3),
		"/default/web":                "web",
		"/elsewhere/entirely":         "odd",
		"/docker":                     "",
		"/":                           "",
		"":                            "",
		"docker/" + id(1):             "",
		"/docker/" + id(2):            "",
		"/other/" + id(1):             "",
		"/x/docker/" + id(1):          "",
		"/docker/" + id(1) + "/below": "",
		"/docker/" + id(4):            "",
		"/web":                        "",
		"/system.slice/docker-" + id(1) + ".scope": "",
	} {
		r, ok, err := x.declared(path)
		if err != nil || ok != (want != "") || r.ID != want {
			t.Errorf("%s: %q, %v, %v; want %q", path, r.ID, ok, err, want)
		}
	}
	for path, runtime := range map[string]string{"/docker/" + id(1): "docker", "/default/web": "containerd"} {
		if r, _, _ := x.declared(path); r.Runtime != runtime {
			t.Errorf("%s: runtime %q", path, r.Runtime)
		}
	}
}

func TestTwoThatDeclareOnePath(t *testing.T) {
	x := newTree(t)
	x.bundle("default", "a", "/same")
	x.bundle("default", "b", "/same")
	if _, ok, err := x.declared("/same"); ok || err == nil {
		t.Error("a contradiction went through")
	}
	x.bundle("moby", id(1), "/docker/"+id(1))
	x.bundle("default", "thief", "/docker/"+id(1))
	if _, ok, err := x.declared("/docker/" + id(1)); ok || err == nil {
		t.Error("a contradiction went through")
	}
}

// Whoever chooses a container's id could choose another's, and leave a bundle that can't
// be read: the other's is found all the same.
func TestBrokenBundleOfTheSameID(t *testing.T) {
	x := newTree(t)
	x.bundle("moby", id(1), "/docker/"+id(1))
	x.Write("task/default/"+id(1)+"/config.json", []byte("{"))
	x.bundle("k8s.io", id(1), "/x/"+id(1))
	x.note("k8s.io", id(1), "/elsewhere", 77) // the runtime contradicts the bundle
	if r, ok, err := x.declared("/docker/" + id(1)); !ok || err != nil || r.Name != id(1) {
		t.Errorf("%+v, %v, %v", r, ok, err)
	}
	if _, ok, err := x.declared("/other/" + id(1)); ok || err == nil {
		t.Error("it may be the broken one's:", ok, err)
	}
}

// A broken bundle is an error for its container alone.
func TestBrokenBundles(t *testing.T) {
	whole := encode(t, config(t, "docker"))
	for name, content := range map[string][]byte{
		"empty":     nil,
		"torn":      whole[:len(whole)/2],
		"no JSON":   []byte("\x00\x01"),
		"no object": []byte("[]"),
		"padded":    append(whole, bytes.Repeat([]byte(" "), launch.MaxConfig)...),
		"oversized": append([]byte(`{"pad":"`+strings.Repeat("x", launch.MaxConfig)+`"`), whole...),
		"nothing":   []byte("{}"),
		"deep":      []byte(strings.Repeat("[", 100000)),
	} {
		t.Run(name, func(t *testing.T) {
			x := newTree(t)
			x.bundle("moby", id(1), "/docker/"+id(1))
			x.Write("task/moby/"+id(2)+"/config.json", content)
			x.Write("task/default/broken/config.json", content)
			if _, ok, err := x.declared("/docker/" + id(1)); !ok || err != nil {
				t.Error("the whole one:", ok, err)
			}
			for _, path := range []string{"/docker/" + id(2), "/default/broken", "/a/nerdctl-broken.scope"} {
				if _, ok, err := x.declared(path); ok || err == nil {
					t.Errorf("%s: %v, no error", path, ok)
				} else if !strings.Contains(err.Error(), "config.json") {
					t.Errorf("the error names no file: %v", err)
				}
			}
			if _, ok, err := x.declared("/system.slice/ssh.service"); ok || err != nil {
				t.Error("a path without a record:", ok, err)
			}
			all := x.list()
			if len(all) != 3 || all[id(1)].Err != nil || all[id(2)].Err == nil || all["broken"].Err == nil {
				t.Errorf("%+v", all)
			}
			if p := powerOf(t, x.store, all[id(2)]); len(p) != 1 || p[0] != power.NoMetadata {
				t.Error(p)
			}
			// A bundle that is complete now is read, whatever it declares,
			// although no directory has changed since.
			time.Sleep(2 * listingDelay)
			x.declared("/complete")
			x.bundle("default", "broken", "/by/no/name")
			if _, ok, err := x.declared("/by/no/name"); !ok || err != nil {
				t.Error("mended:", ok, err)
			}
			x.bundle("default", "broken", "/default/broken")
			if _, ok, err := x.declared("/default/broken"); !ok || err != nil {
				t.Error("mended:", ok, err)
			}
		})
	}
}

func TestListPassesOverWhatVanishes(t *testing.T) {
	x := newTree(t)
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			x.bundle("moby", id(n%7), "/docker/"+id(n%7))
			os.RemoveAll(filepath.Join(x.Dir, "task/moby", id(n%7)))
		}
	}()
	for range 200 {
		if _, err := x.store.List(context.Background()); err != nil {
			t.Error(err)
		}
		if _, _, err := x.store.Declared(context.Background(), "", "/system.slice"); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	<-done
}

func TestListKnowsWhatIsWrittenAgain(t *testing.T) {
	x := newTree(t)
	x.bundle("moby", id(1), "/docker/"+id(1))
	before := x.list()[id(1)].Stamp
	if x.list()[id(1)].Stamp != before {
		t.Error("the stamp changed by itself")
	}
	x.bundle("moby", id(1), "/docker/"+id(1), add("process.args", "x"))
	if r := x.list()[id(1)]; r.Stamp == before || len(r.Launch.Asked.Arguments) != 3 {
		t.Error("a new writing was not seen")
	}
}

func TestContextEnds(t *testing.T) {
	x := newTree(t)
	x.bundle("moby", id(1), "/docker/"+id(1))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := x.store.Declared(ctx, "", "/docker/"+id(1)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := x.store.List(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestPowerOfCgroupParent(t *testing.T) {
	x := newTree(t)
	x.bundle("moby", id(1), "/docker/"+id(1))
	x.bundle("moby", id(2), "/docker/"+id(1)+"/"+id(2))
	x.bundle("moby", id(3), "/docker/"+id(9)+"/"+id(3)) // a podman pod's form: no container
	x.bundle("k8s.io", id(4), "/pod/crio-"+id(1)+".scope/"+id(4), set("annotations", map[string]any{"io.kubernetes.cri.sandbox-id": id(1)}))
	all := x.list()
	for n, want := range map[int]bool{1: false, 2: true, 3: false, 4: false} {
		if got := slices.Contains(powerOf(t, x.store, all[id(n)]), "cgroup-parent"); got != want {
			t.Errorf("container %d: %v", n, powerOf(t, x.store, all[id(n)]))
		}
	}
}

func TestPowerOfNothing(t *testing.T) {
	for _, r := range []Record{{}, {Launch: launch.Launch{Source: logs.SourceNone}}, {Err: trust.ErrUntrusted}} {
		if p := powerOf(t, New(Options{}), r); !slices.Equal(p, []string{power.NoMetadata}) {
			t.Errorf("%+v: %v", r, p)
		}
	}
}

// A user of docker or podman may give a container any annotation. The
// annotations of a kubelet's runtime count for such a runtime alone.
func TestAnnotationsOfAPod(t *testing.T) {
	const storage = "/var/lib/docker/overlay2"
	pretends := func(c map[string]any) {
		set("annotations", map[string]any{
			"io.container.manager": "cri-o", "io.kubernetes.pod.uid": "overlay2", "io.kubernetes.pod.name": "victim",
			"io.kubernetes.cri.sandbox-id": id(1), "io.kubernetes.cri.image-name": "victim",
		})(c)
		add("mounts", mount("/x", "bind", storage, "rbind"))(c)
		add("mounts", mount("/y", "bind", "/srv/"+id(1), "rbind"))(c)
	}
	x := newTree(t)
	x.bundle("moby", id(1), "/docker/"+id(1))
	x.bundle("moby", id(2), "/docker/"+id(1)+"/"+id(2), pretends)
	for n, parent := range map[int]string{
		3: "/docker/" + id(1) + "/libpod-", 6: "/docker/" + id(1) + "/crio-x/libpod-", 7: "/docker/" + id(1) + "/x.slice:crio:/libpod-",
	} {
		podman := config(t, "podman")
		set("linux.cgroupsPath", parent+id(n))(podman)
		pretends(podman)
		x.Write("storage/overlay-containers/"+id(n)+"/userdata/config.json", encode(t, podman))
	}
	for n, parent := range map[int]string{8: "crio-x.slice", 9: "x.slice-crio-y.slice"} { // podman run --cgroup-parent
		podman := config(t, "podman")
		set("linux.cgroupsPath", parent+":libpod:"+id(n))(podman)
		pretends(podman)
		x.Write("storage/overlay-containers/"+id(n)+"/userdata/config.json", encode(t, podman))
		if r := x.list()[id(n)]; r.Err != nil || r.Runtime != "podman" || r.Pod != (launch.Pod{}) {
			t.Errorf("in %s: %q, %+v, %v", parent, r.Runtime, r.Pod, r.Err)
		}
	}
	for n, runtime := range map[int]string{2: "docker", 3: "podman", 6: "podman", 7: "podman"} {
		r := x.list()[id(n)]
		if r.Err != nil || r.Runtime != runtime || r.Pod != (launch.Pod{}) {
			t.Errorf("%s: %q, %+v, %v", runtime, r.Runtime, r.Pod, r.Err)
		}
		for _, m := range r.Launch.Asked.Mounts {
			if m.Engine && (m.Destination == "/x" || m.Destination == "/y") {
				t.Errorf("%s: an annotation makes a mount the engine's: %+v", runtime, m)
			}
		}
		if power := powerOf(t, x.store, r); !slices.Contains(power, "cgroup-parent") {
			t.Errorf("%s: %v lacks cgroup-parent", runtime, power)
		}
	}
	x.bundle("k8s.io", id(4), "kubepods-podx.slice:cri-containerd:"+id(4), pretends)
	crio := config(t, "podman")
	set("linux.cgroupsPath", "kubepods-podx.slice:crio:"+id(5))(crio)
	pretends(crio)
	x.Write("storage/overlay-containers/"+id(5)+"/userdata/config.json", encode(t, crio))
	for n, runtime := range map[int]string{4: "containerd", 5: "cri-o"} {
		if r := x.list()[id(n)]; r.Runtime != runtime || r.Pod.Name != "victim" || r.Pod.UID != "overlay2" {
			t.Errorf("%s: %q, %+v", runtime, r.Runtime, r.Pod)
		}
	}
}

// The launch names a pod where containerd's CRI plugin made the container, in its
// namespace, and where all that it says can be a pod's.
func TestPodOfALaunch(t *testing.T) {
	const name, namespace, uid, container = "io.kubernetes.cri.sandbox-name", "io.kubernetes.cri.sandbox-namespace", "io.kubernetes.cri.sandbox-uid", "io.kubernetes.cri.container-name"
	web := launch.Pod{Name: "web-1", Namespace: "prod", UID: "0b7c3f51-1111", Container: "app"}
	says := func(more ...string) map[string]any {
		out := map[string]any{"io.kubernetes.cri.sandbox-id": id(9), "io.kubernetes.cri.image-name": "x", name: "web-1", namespace: "prod", uid: "0b7c3f51-1111", container: "app"}
		for i := 0; i < len(more); i += 2 {
			out[more[i]] = more[i+1]
		}
		return out
	}
	without := launch.Pod{Name: "web-1", Namespace: "prod", UID: "0b7c3f51-1111"}
	for what, c := range map[string]struct {
		namespace string
		says      map[string]any
		want      launch.Pod
	}{
		"by CRI":                  {"k8s.io", says(), web},
		"the pod's first":         {"k8s.io", says(container, ""), without},
		"by ctr":                  {"default", says(), launch.Pod{}},
		"by docker":               {"moby", says(), launch.Pod{}},
		"no annotations":          {"k8s.io", map[string]any{}, launch.Pod{}},
		"a name with a newline":   {"k8s.io", says(name, "web\n"), launch.Pod{}},
		"a name with a slash":     {"k8s.io", says(namespace, "kube/system"), launch.Pod{}},
		"a name that is too long": {"k8s.io", says(uid, strings.Repeat("a", 254)), launch.Pod{}},
		"not UTF-8":               {"k8s.io", says(container, "\xff"), launch.Pod{}},
	} {
		t.Run(what, func(t *testing.T) {
			x := newTree(t)
			x.bundle(c.namespace, id(1), "/kubepods/podx/"+id(1), set("annotations", c.says))
			r := x.list()[id(1)]
			if r.Err != nil || r.Launch.Pod != c.want {
				t.Errorf("%+v, %v, want %+v", r.Launch.Pod, r.Err, c.want)
			}
		})
	}
}

// A user whose home hangs holds up nobody else, and is asked no more after some calls.
func TestUsersHomeHangs(t *testing.T) {
	x := newTree(t)
	homes := map[uint32]string{1000: x.Mkdir("home"), 1001: x.Mkdir("other")}
	store := New(Options{Places: DefaultPlaces()[4:], Users: func() map[uint32]string { return homes }})
	end := daemontest.Hang(t, homes[1000])
	declared := func(ctx context.Context, uid int) error {
		_, _, err := store.Declared(ctx, "", fmt.Sprintf("/user.slice/user-%[1]d.slice/user@%[1]d.service/user.slice/libpod-%[2]s.scope", uid, id(1)))
		return err
	}
	hung := 0
	for range 6 { // more than may hang
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := declared(ctx, 1000); errors.Is(err, context.DeadlineExceeded) {
			hung++
		} else if err == nil {
			t.Error("a record that can't be read was read")
		}
		cancel()
	}
	if hung == 0 || hung == 6 {
		t.Errorf("%d calls of 6 hang", hung)
	}
	if err := declared(t.Context(), 1001); err != nil {
		t.Error("another's:", err)
	}
	if _, err := store.List(t.Context()); err != nil {
		t.Error("root's:", err)
	}
	end()
	daemontest.Eventually(t, "what hung has returned", func() bool { return !errors.Is(declared(t.Context(), 1000), context.DeadlineExceeded) })
}

// A user who puts a FIFO in the place of a rootless engine's bundles delays
// nothing: neither the list of root's records nor the lookup of a cgroup.
func TestUsersFIFOHoldsNobody(t *testing.T) {
	x := newTree(t)
	home := x.Mkdir("home")
	dir := x.Mkdir("home/.local/share/containers/storage")
	if err := unix.Mkfifo(filepath.Join(dir, "overlay-containers"), 0o666); err != nil {
		t.Fatal(err)
	}
	store := New(Options{Places: DefaultPlaces()[4:], Users: func() map[uint32]string {
		return map[uint32]string{1000: home}
	}})
	done := make(chan error, 2)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	go func() { _, err := store.List(ctx); done <- err }()
	go func() {
		id := strings.Repeat("a", 64)
		_, ok, _ := store.Declared(ctx, "", "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-"+id+".scope")
		if ok {
			t.Error("a FIFO declared a container")
		}
		done <- nil
	}()
	for range 2 {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(time.Minute):
			t.Fatal("held up by a FIFO")
		}
	}
}
