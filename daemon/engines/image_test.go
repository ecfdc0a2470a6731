package engines

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/records"
)

func TestReference(t *testing.T) {
	digest := "sha256:" + strings.Repeat("ab", 32)
	for name, want := range map[string]string{
		"bb":                                 "docker.io/library/bb:latest",
		"bb:1":                               "docker.io/library/bb:1",
		"user/bb":                            "docker.io/user/bb:latest",
		"docker.io/bb":                       "docker.io/library/bb:latest",
		"index.docker.io/bb:1":               "docker.io/library/bb:1",
		"docker.io/library/bb:1":             "docker.io/library/bb:1",
		"localhost/bb:1":                     "localhost/bb:1",
		"registry.example/a/b/c":             "registry.example/a/b/c:latest",
		"host:5000/bb":                       "host:5000/bb:latest",
		"host:5000/bb:1":                     "host:5000/bb:1",
		"bb@" + digest:                       "docker.io/library/bb@" + digest,
		"bb:1@" + digest:                     "docker.io/library/bb:1@" + digest,
		"docker://quay.io/x/y:2":             "quay.io/x/y:2",
		strings.Repeat("ab", 32):             "",
		"sha256:" + strings.Repeat("ab", 32): "",
		"":                                   "",
	} {
		if got := reference(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

// host is a tree of files with a client that looks there.
type host struct {
	*testing.T
	dir    string
	client *Client
}

// newHost makes a host whose root is whoever runs the test.
func newHost(t *testing.T) *host {
	t.Helper()
	x := &host{T: t, dir: trustedDir(t)}
	x.client = New(Options{Engines: []Engine{{"docker", x.dir + "/docker.sock"}}, Storage: []string{x.dir + "/storage"}})
	x.client.trust.Root = uint32(os.Getuid())
	return x
}

func (x *host) write(name string, content []byte) {
	x.Helper()
	file := filepath.Join(x.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, content, 0o644)); err != nil {
		x.Fatal(err)
	}
}

// engine answers on the host's docker.sock.
func (x *host) engine(answers map[string]string) {
	x.Helper()
	listener, err := net.Listen("unix", filepath.Join(x.dir, "docker.sock"))
	if err != nil {
		x.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, ok := answers[r.URL.Path]
		switch {
		case !ok:
			http.NotFound(w, r)
		case answer == "hang":
			<-r.Context().Done()
		default:
			fmt.Fprint(w, answer)
		}
	})}
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(listener) }()
	x.Cleanup(func() { server.Close(); <-done })
}

func TestImageFromDocker(t *testing.T) {
	image, layer := strings.Repeat("cd", 32), "sha256:"+strings.Repeat("ef", 32)
	container := "/containers/" + id(1) + "/json"
	inspect := "/images/sha256:" + image + "/json"
	good := `{"Id":"` + id(1) + `","Image":"sha256:` + image + `","Config":{"Image":"bb:1"}}`
	goodImage := `{"Id":"sha256:` + image + `","RepoTags":["bb:1"],"RootFS":{"Layers":["` + layer + `"]}}`
	whole := launch.Image{Reference: "docker.io/library/bb:1", Digest: "sha256:" + image, Layers: []string{layer}}
	for name, test := range map[string]struct {
		answers map[string]string
		want    launch.Image
		is      error
	}{
		"good": {map[string]string{container: good, inspect: goodImage}, whole, nil},
		"by id": {map[string]string{container: strings.Replace(good, "bb:1", image[:12], 1), inspect: goodImage},
			launch.Image{Digest: whole.Digest, Layers: whole.Layers}, nil},
		"containerd's store": {map[string]string{container: good, inspect: strings.Replace(goodImage, `"RootFS"`, `"Descriptor":{"digest":"sha256:`+image+`"},"RootFS"`, 1)},
			launch.Image{Reference: whole.Reference, Manifest: whole.Digest, Layers: whole.Layers}, nil},
		"unknown container": {map[string]string{}, launch.Image{}, ErrNotReady},
		"unknown image":     {map[string]string{container: good}, launch.Image{}, ErrNotReady},
		"hangs":             {map[string]string{container: "hang"}, launch.Image{}, ErrNotReady},
		"another container": {map[string]string{container: strings.Replace(good, id(1), id(2), 1), inspect: goodImage}, launch.Image{}, errAny},
		"another image":     {map[string]string{container: good, inspect: strings.Replace(goodImage, image, strings.Repeat("00", 32), 1)}, launch.Image{}, errAny},
		"no image id":       {map[string]string{container: strings.Replace(good, "sha256:"+image, "../../x", 1)}, launch.Image{}, errAny},
		"strange layer":     {map[string]string{container: good, inspect: strings.Replace(goodImage, layer, "x", 1)}, launch.Image{}, errAny},
		"no JSON":           {map[string]string{container: "<html>"}, launch.Image{}, errAny},
		"padded":            {map[string]string{container: good + strings.Repeat(" ", maxAnswer)}, launch.Image{}, errAny},
		"endless":           {map[string]string{container: `{"x":"` + strings.Repeat("x", maxAnswer) + `"}`}, launch.Image{}, errAny},
	} {
		t.Run(name, func(t *testing.T) {
			x := newHost(t)
			x.engine(test.answers)
			patience := 20 * time.Second
			if name == "hangs" {
				patience = 300 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			got, err := x.client.Image(ctx, records.Record{ID: id(1), Runtime: "docker"})
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			checkError(t, err, test.is)
		})
	}
}

// errAny stands for an error that is neither ErrNotReady nor ErrNoEngine.
var errAny = errors.New("any other error")

func checkError(t *testing.T, err, want error) {
	t.Helper()
	switch {
	case want == nil && err != nil, want != nil && err == nil:
		t.Errorf("error %v, want %v", err, want)
	case errors.Is(want, errAny) && (errors.Is(err, ErrNotReady) || errors.Is(err, ErrNoEngine)):
		t.Errorf("error %v would be asked again", err)
	case want != nil && !errors.Is(want, errAny) && !errors.Is(err, want):
		t.Errorf("error %v, want %v", err, want)
	}
}

func TestNoEngine(t *testing.T) {
	x := newHost(t)
	ask := func() error {
		_, err := x.client.Image(context.Background(), records.Record{ID: id(1), Runtime: "docker"})
		return err
	}
	checkError(t, ask(), ErrNoEngine)
	x.write("docker.sock", nil) // no socket
	checkError(t, ask(), ErrNoEngine)
	os.Remove(filepath.Join(x.dir, "docker.sock"))
	x.engine(map[string]string{})
	if err := os.Chmod(x.dir, 0o777); err != nil { // anybody could have put it there
		t.Fatal(err)
	}
	if err := ask(); !errors.Is(err, records.ErrUntrusted) {
		t.Error(err)
	}
	os.Chmod(x.dir, 0o755)
	checkError(t, ask(), ErrNotReady)
	if os.Getuid() == 0 {
		if err := os.Lchown(filepath.Join(x.dir, "docker.sock"), 1234, 0); err != nil {
			t.Fatal(err)
		}
		if err := ask(); !errors.Is(err, records.ErrUntrusted) {
			t.Error(err)
		}
	}
	for _, r := range []records.Record{{ID: "web", Runtime: "containerd"}, {ID: "../x", Runtime: "docker"}, {ID: "x", Runtime: "other"}} {
		if _, err := x.client.Image(context.Background(), r); !errors.Is(err, ErrNoEngine) {
			t.Errorf("%+v: %v", r, err)
		}
	}
	got, err := x.client.Image(context.Background(), records.Record{ID: id(1), Runtime: "containerd", Pod: launch.Pod{Image: "registry.example/app:2"}})
	if err != nil || got.Reference != "registry.example/app:2" {
		t.Error(got, err)
	}
}

func TestImageFromStorage(t *testing.T) {
	layer := "sha256:" + strings.Repeat("ef", 32)
	blob := []byte(`{"rootfs":{"type":"layers","diff_ids":["` + layer + `"]}}`)
	sum := sha256.Sum256(blob)
	image := hex.EncodeToString(sum[:])
	lists := func(x *host, name, image string) {
		x.write("storage/overlay-containers/"+name, []byte(`[{"id":"`+id(9)+`"},{"id":"`+id(1)+`","image":"`+image+`","metadata":"{\"image-name\":\"localhost/bb:1\"}"}]`))
	}
	file := "storage/overlay-images/" + image + "/=" + base64.StdEncoding.EncodeToString([]byte("sha256:"+image))
	want := launch.Image{Reference: "localhost/bb:1", Digest: "sha256:" + image, Layers: []string{layer}}
	for name, test := range map[string]struct {
		make func(x *host)
		want launch.Image
		is   error
	}{
		"good":          {func(x *host) { lists(x, "containers.json", image); x.write(file, blob) }, want, nil},
		"volatile":      {func(x *host) { lists(x, "volatile-containers.json", image); x.write(file, blob) }, want, nil},
		"not listed":    {func(x *host) { x.write("storage/overlay-containers/containers.json", []byte("[]")) }, launch.Image{}, ErrNotReady},
		"half written":  {func(x *host) { x.write("storage/overlay-containers/containers.json", []byte("[{")) }, launch.Image{}, ErrNotReady},
		"--rootfs":      {func(x *host) { lists(x, "containers.json", "") }, launch.Image{}, ErrNoEngine},
		"image gone":    {func(x *host) { lists(x, "containers.json", image) }, launch.Image{}, ErrNoEngine},
		"image changed": {func(x *host) { lists(x, "containers.json", image); x.write(file, append(blob, ' ')) }, launch.Image{}, errAny},
		"of another user": {func(x *host) {
			if os.Getuid() != 0 {
				unavailable(x.T, "needs root: gives files to another user")
			}
			lists(x, "containers.json", image)
			os.Chown(filepath.Join(x.dir, "storage/overlay-containers/containers.json"), 1234, 0)
		}, launch.Image{}, ErrNotReady},
		"for the world": {func(x *host) {
			lists(x, "containers.json", image)
			os.Chmod(filepath.Join(x.dir, "storage/overlay-containers/containers.json"), 0o666)
		}, launch.Image{}, ErrNotReady},
	} {
		t.Run(name, func(t *testing.T) {
			x := newHost(t)
			test.make(x)
			r := records.Record{ID: id(1), Runtime: "podman", Bundle: x.dir + "/storage/overlay-containers/" + id(1) + "/userdata"}
			got, err := x.client.Image(context.Background(), r)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			checkError(t, err, test.is)
			// cri-o's bundle lies under /run, its images do not.
			r.Runtime, r.Bundle = "cri-o", x.dir+"/run/overlay-containers/"+id(1)+"/userdata"
			if got, err := x.client.Image(context.Background(), r); cmp.Diff(test.want, got) != "" {
				t.Error(got, err)
			}
		})
	}
}
