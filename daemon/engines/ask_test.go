package engines

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/records"
)

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
		"unknown container": {map[string]string{}, launch.Image{}, errNotReady},
		"unknown image":     {map[string]string{container: good}, launch.Image{}, errNotReady},
		"hangs":             {map[string]string{container: "hang"}, launch.Image{}, errNotReady},
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
			timeout := 20 * time.Second
			if name == "hangs" {
				timeout = 300 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(context.Background(), timeout)
			defer cancel()
			got, err := x.client.Image(ctx, records.Record{ID: id(1), Runtime: "docker"})
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			checkError(t, err, test.is)
		})
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
	if err := os.Chmod(x.dir, 0o777); err != nil { // any user could have put the socket there
		t.Fatal(err)
	}
	if err := ask(); !errors.Is(err, ErrNoEngine) || !strings.Contains(err.Error(), "by its owner alone") {
		t.Error(err)
	}
	os.Chmod(x.dir, 0o755)
	checkError(t, ask(), errNotReady)
	if os.Getuid() == 0 {
		if err := os.Lchown(filepath.Join(x.dir, "docker.sock"), 1234, 0); err != nil {
			t.Fatal(err)
		}
		if err := ask(); !errors.Is(err, ErrNoEngine) || !strings.Contains(err.Error(), "by its owner alone") {
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
