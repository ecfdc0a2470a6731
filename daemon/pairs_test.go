package daemon

import (
	"fmt"
	"os"

	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/launch/predict"
	"github.com/cima-project/cima/packaging/test/engine"
)

// powerful are the classes of those lines of launch/predict/testdata that ask for power,
// by what they say. All other lines have none.
var powerful = []struct{ says, classes string }{
	{"--cap-add NET_ADMIN", "capability:CAP_NET_ADMIN"},
	{"--cap-add SYS_ADMIN", "capability:CAP_SYS_ADMIN"},
	{"--cap-add ALL", "capability:CAP_SYS_ADMIN …"},
	{"--privileged ", "capability:CAP_SYS_ADMIN device:* privileged unconfined:paths unconfined:seccomp …"},
	{"seccomp=", "unconfined:seccomp"},
	{"systempaths=unconfined", "unconfined:paths"},
	{"unmask=", "unconfined:paths"},
	{"podman run -d --network none --security-opt label=disable", "unconfined:selinux"}, // docker says nothing without SELinux
	{"--network host", "mount:sysfs namespace:network"},
	{"podman run -d --network container:", "joined:network"}, // of one without a network: podman notes that in its database alone
	{"--pid host", "namespace:pid"},
	{"--pid container:", "joined:pid"},
	{"--ipc host", "host-write:/dev namespace:ipc"},
	{"--ipc container:", "joined:ipc"},
	{"--uts host", "namespace:uts"},
	{"--device-cgroup-rule 'c 10:200", "device:c:10:200"},
	{"propagation=rshared", "propagation setting:linux.rootfsPropagation"},
	{"--uidmap", "device:*"}, // podman gives such a container no rules for devices
	{"--systemd always", "{systemd}"},
	{"type=image", "mount-option mount:overlay"},
	{":O ", "mount-option mount:overlay"},
}

// apart are in lines by which docker and podman ask the runtime for different things.
var apart = []string{
	"/data/:ro",              // podman keeps the slash
	":ro,nocopy",             // podman hands its own option on
	"NET_ADMIN -u 1000:1000", // podman makes the capability ambient, too
	"predict:2",              // podman's volumes of an image have the option exec
	"--tmpfs /run",           // podman mounts that by itself where the root is read-only
}

// pair is a line of launch/predict/testdata.
type pair struct {
	line      string
	predicted bool // predict knows all that it asks for
}

// pairs reads the lines that an engine runs. Directories of the host are data here.
func pairs(t *testing.T, engine string) (all []pair) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("launch/predict/testdata", engine+".lines"))
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(text)) {
		mark, line, ok := strings.Cut(strings.TrimSpace(l), " ")
		if !ok || mark[0] == '#' || !*whole && (!strings.HasSuffix(mark, "+") || len(all) == 8) {
			continue
		}
		all = append(all, pair{strings.ReplaceAll(line, "/run/data", "/srv/data"), mark[0] == '='})
	}
	return all
}

// Equal lines of docker's and podman's have equal launch digests and defaults digests,
// those that predict gave for the launch, and no class of power unless they ask for it.
func TestPairs(t *testing.T) {
	s := newScene(t)
	for name, text := range map[string]string{"/run/env": "# a comment\nF1=one\nF2=two words\n", "/run/seccomp.json": `{"defaultAction":"SCMP_ACT_ALLOW"}`} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Remove(name) })
	}
	ran, equal, harmless, predicted, both := 0, 0, 0, 0, 0
	asked := make(map[string]string) // by what follows the engine's name
	for _, name := range []string{"docker", "podman"} {
		images := pairImages(t, name)
		for _, p := range pairs(t, name) {
			t.Run(p.line, func(t *testing.T) {
				first, err := s.run(t, p.line)
				remove(name, first.id)
				if err != nil {
					t.Logf("it doesn't run here: %v", err)
					return
				}
				second, err := s.run(t, p.line)
				remove(name, second.id)
				if err != nil {
					t.Fatal(err)
				}
				ran++
				if d := first.difference(second); d != "" {
					t.Errorf("two runs differ in %s", d)
				} else {
					equal++
				}
				classes := ""
				for _, c := range powerful {
					if strings.Contains(p.line, c.says) {
						classes = c.classes
					}
				}
				if len(first.classes)+len(second.classes) == 0 {
					harmless++
				}
				first.wantClasses(t, s.fill(classes))
				second.wantClasses(t, s.fill(classes))
				_, flags, _ := strings.Cut(p.line, " ")
				if other, ok := asked[flags]; ok {
					if d := cmp.Diff(other, text(first.launch.Asked)); d == "" {
						both++
					} else if !slices.ContainsFunc(apart, func(word string) bool { return strings.Contains(flags, word) }) {
						t.Errorf("docker and podman are asked for: %s", d)
					}
				}
				asked[flags] = text(first.launch.Asked)
				switch digest := predictedDigest(t, p.line, images); {
				case digest == fmt.Sprintf("%x", first.digest):
					predicted++
				case p.predicted:
					t.Errorf("predict gives the launch digest %q, and the daemon %x: %s", digest, first.digest, difference(first.launch.Asked, nil))
				}
			})
		}
	}
	t.Logf("%d lines ran twice: %d pairs are equal, %d have no class, predict gave the launch digest of %d, %d are the same for docker and podman", ran, equal, harmless, predicted, both)
	if *whole && (harmless < 70 || predicted*20 < ran*19) {
		t.Error("at least 70 pairs must have no class, and predict must agree with 95 % of all")
	}
}

// predictedDigest is what predict gives for a line; "" where it can't.
func predictedDigest(t *testing.T, line string, images map[string]predict.Image) string {
	t.Helper()
	c, err := predict.Line(line, os.ReadFile)
	if err != nil {
		t.Fatal(err)
	}
	p, err := predict.Predict(c, images[c.Image], predict.Host{}, launch.Rules{})
	if err != nil {
		t.Fatal(err)
	}
	return p.Digest
}

const (
	pairPasswd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:app:/home/app:/bin/sh\n"
	pairGroup  = "root:x:0:\nbin:x:1:root\nwheel:x:10:root,app\napp:x:1001:\n"
)

// pairImages makes the images that the lines name, and a container that they name.
func pairImages(t *testing.T, name string) map[string]predict.Image {
	t.Helper()
	needShell(t)
	users, err := predict.ParseUsers([]byte(pairPasswd), []byte(pairGroup))
	if err != nil {
		t.Fatal(err)
	}
	e := &engine.Engine{Name: name, Client: []string{name}}
	do := func(input string, args ...string) string {
		t.Helper()
		out, err := e.Do(t.Context(), input, args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	images := make(map[string]predict.Image)
	for image, changes := range map[string][]string{
		"predict:1": {"ENV IMG=1", `CMD ["/bin/sleep","1000"]`},
		"predict:2": {"ENV IMG=1", "ENV PATH=/bin:/usr/bin", `ENTRYPOINT ["/bin/sleep"]`, `CMD ["1000"]`, "USER app", "WORKDIR /home/app", "VOLUME /vol", "LABEL a=b"},
	} {
		root, err := shell()
		if err != nil {
			t.Fatal(err)
		}
		layer, err := root.Text("/etc/passwd", []byte(pairPasswd)).Text("/etc/group", []byte(pairGroup)).Bytes()
		if err != nil {
			t.Fatal(err)
		}
		args := []string{"import"}
		for _, c := range changes {
			args = append(args, "--change", c)
		}
		do(string(layer), append(args, "-", image)...)
		config, err := launch.ParseImageConfig(imageConfig(t, name, strings.TrimPrefix(do("", "image", "inspect", "--format", "{{.Id}}", image), "sha256:")))
		if err != nil {
			t.Fatal(err)
		}
		images[image] = predict.Image{Config: config, Users: users}
	}
	do("", "run", "-d", "--network", "none", "--ipc", "shareable", "--name", "other", "predict:1")
	t.Cleanup(func() { remove(name, "other") })
	return images
}

// imageConfig reads an image's configuration from the engine's storage.
func imageConfig(t *testing.T, engine, id string) []byte {
	t.Helper()
	pattern := "/var/lib/docker/image/overlay2/imagedb/content/sha256/" + id
	if engine == "podman" { // containers/storage names big data in base64 behind a "="
		pattern = "/var/lib/containers/storage/overlay-images/" + id + "/=c2hhMjU2*"
	}
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) != 1 {
		t.Fatalf("configuration of the image %s: %q, %v", id, found, err)
	}
	text, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	return text
}
