package engines

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/records"
)

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
		"not listed":    {func(x *host) { x.write("storage/overlay-containers/containers.json", []byte("[]")) }, launch.Image{}, errNotReady},
		"half written":  {func(x *host) { x.write("storage/overlay-containers/containers.json", []byte("[{")) }, launch.Image{}, errNotReady},
		"--rootfs":      {func(x *host) { lists(x, "containers.json", "") }, launch.Image{}, ErrNoEngine},
		"image gone":    {func(x *host) { lists(x, "containers.json", image) }, launch.Image{}, ErrNoEngine},
		"image changed": {func(x *host) { lists(x, "containers.json", image); x.write(file, append(blob, ' ')) }, launch.Image{}, errAny},
		"of another user": {func(x *host) {
			if os.Getuid() != 0 {
				skipUnavailable(x.T, "needs root: gives files to another user")
			}
			lists(x, "containers.json", image)
			os.Chown(filepath.Join(x.dir, "storage/overlay-containers/containers.json"), 1234, 0)
		}, launch.Image{}, errNotReady},
		"for the world": {func(x *host) {
			lists(x, "containers.json", image)
			os.Chmod(filepath.Join(x.dir, "storage/overlay-containers/containers.json"), 0o666)
		}, launch.Image{}, errNotReady},
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
			// cri-o's bundle is under /run, its images are not
			r.Runtime, r.Bundle = "cri-o", x.dir+"/run/overlay-containers/"+id(1)+"/userdata"
			if got, err := x.client.Image(context.Background(), r); cmp.Diff(test.want, got) != "" {
				t.Error(got, err)
			}
		})
	}
}
