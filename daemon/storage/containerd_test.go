package storage

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/cima-project/cima/daemon/launch/launchtest"
)

const (
	metaDB = "root/io.containerd.metadata.v1.bolt/meta.db"
	blobs  = "root/io.containerd.content.v1.content/blobs/sha256"
)

// containerd writes what containerd has of a container in the namespace k8s.io, and returns
// the bundle. The database stays open, with the library's lock on it.
func (x *host) containerd(values map[string]string) (bundle string) {
	x.Helper()
	x.Mkdir(filepath.Dir(metaDB))
	db, err := bbolt.Open(filepath.Join(x.Dir, metaDB), 0o644, nil)
	if err != nil {
		x.Fatal(err)
	}
	x.Cleanup(func() { db.Close() })
	err = db.Update(func(tx *bbolt.Tx) error {
		for at, value := range values {
			path := append([]string{"v1", "k8s.io"}, strings.Split(at, "|")...)
			b, err := tx.CreateBucketIfNotExists([]byte(path[0]))
			for _, name := range path[1 : len(path)-1] {
				if err == nil {
					b, err = b.CreateBucketIfNotExists([]byte(name))
				}
			}
			if err == nil {
				err = b.Put([]byte(path[len(path)-1]), []byte(value))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	bundle = x.Mkdir("run/io.containerd.runtime.v2.task/k8s.io/" + id(1))
	link := filepath.Join(bundle, "work")
	os.Remove(link)
	if err := errors.Join(err, os.Symlink(x.Dir+"/root/io.containerd.runtime.v2.task/k8s.io/"+id(1), link)); err != nil {
		x.Fatal(err)
	}
	return bundle
}

// anyOf is a google.protobuf.Any of JSON, as typeurl writes it.
func anyOf(value string) string {
	raw := protowire.AppendTag(nil, 1, protowire.BytesType)
	raw = protowire.AppendString(raw, "github.com/containerd/cri/pkg/store/container/Metadata")
	raw = protowire.AppendTag(raw, 2, protowire.BytesType)
	return string(protowire.AppendString(raw, value))
}

// Of two layers, in two platforms.
func layered(arch string) string {
	return `{"architecture":"` + arch + `","config":{"Env":["PATH=/bin","A=b"]},"rootfs":{"type":"layers","diff_ids":["sha256:` +
		launchtest.ID(8) + `","sha256:` + launchtest.ID(9) + `"]}}`
}

// chainOfLayered is what snapshots of layered stand on, computed by hand:
// printf '%s' 'sha256:…a0008 sha256:…a0009' | sha256sum
const chainOfLayered = "sha256:432decb2e626120b526a1985859b31d47cf2fd7ed79c252c1598aae312f9a315"

func TestContainerdsImage(t *testing.T) {
	x := newHost(t)
	image := x.blob(blobs, layered("amd64"))
	other := x.blob(blobs, strings.Replace(layered("arm64"), id(9), id(7), 1))
	manifest := x.blob(blobs, `{"schemaVersion":2,"config":{"digest":"`+image+`"},"layers":[]}`)
	others := x.blob(blobs, `{"schemaVersion":2,"config":{"digest":"`+other+`"},"layers":[]}`)
	list := x.blob(blobs, `{"schemaVersion":2,"manifests":[{"digest":"sha256:`+id(3)+`"},{"digest":"`+others+`"},{"digest":"`+manifest+`"}]}`)
	record := func(extra ...string) map[string]string {
		c := "containers|" + id(1) + "|"
		values := map[string]string{
			c + "image": "registry.example/app:2", c + "snapshotter": "overlayfs", c + "snapshotKey": id(1),
			"snapshots|overlayfs|" + id(1) + "|parent":          chainOfLayered,
			"images|registry.example/app:2|target|digest":       manifest,
			"images|registry.example/app:2|target|mediatype":    "application/vnd.oci.image.manifest.v1+json",
			"containers|" + id(2) + "|image":                    "registry.example/other:1",
			"containers|" + id(1) + "|extensions|another":       anyOf(`{"Metadata":{"ImageRef":"` + other + `"}}`),
			"images|registry.example/other:1|target|digest":     others,
			"snapshots|native|" + id(1) + "|parent":             "sha256:" + id(5),
			"content|blob|" + manifest + "|labels|a":            "b",
			"images|registry.example/app:2|labels|io.cri-contd": "managed",
		}
		for i := 0; i < len(extra); i += 2 {
			values[strings.Replace(extra[i], "C|", c, 1)] = extra[i+1]
		}
		return values
	}
	cri := func(image string) string {
		return anyOf(`{"Version":"v1","Metadata":{"ID":"` + id(1) + `","Config":{"image":{"image":"x"}},"ImageRef":"` + image + `"}}`)
	}
	const ext, target, parent = "C|extensions|" + criMetadata, "images|registry.example/app:2|target|digest", "snapshots|overlayfs|"
	for name, c := range map[string]struct {
		values map[string]string
		want   string // digest
	}{
		"by a manifest":                       {record(), image},
		"by an index: what the snapshot has":  {record(target, list), image},
		"as CRI notes":                        {record(ext, cri(image)), image},
		"as CRI notes, and the tag has moved": {record(ext, cri(image), target, others), image},
		"the tag has moved":                   {record(target, others), ""},
		"CRI notes another":                   {record(ext, cri(other)), ""},
		"CRI notes a path":                    {record(ext, cri("sha256:../../"+id(1))), ""},
		"CRI's note is none":                  {record(ext, "\xff\xff\xff"), image},
		"CRI's note is none, and cut":         {record(ext, cri(image)[:70]), image},
		"another root file system":            {record(parent+id(1)+"|parent", "sha256:"+id(4)), ""},
		"of no snapshot":                      {record("C|snapshotKey", "none"), ""},
		"of another snapshotter":              {record("C|snapshotter", "native"), ""},
		"no image":                            {record("C|image", ""), ""},
		"an image that is gone":               {record("C|image", "gone"), ""},
		"a target that is gone":               {record(target, "sha256:"+id(3)), ""},
		"nothing":                             {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			y := newHost(t)
			y.Tree.Dir = x.Dir // whose blobs are there
			os.Remove(filepath.Join(x.Dir, metaDB))
			bundle := y.containerd(c.values)
			is, err := y.reader.Containerd(bundle)
			if c.want == "" {
				if err == nil || is.Image != nil || is.Layers != nil {
					t.Errorf("%+v, %v", is, err)
				}
				return
			}
			if err != nil || is.Image == nil || is.Image.Digest != c.want || len(is.Image.Environment) != 2 ||
				!slices.Equal(is.Layers, []string{"sha256:" + id(8), "sha256:" + id(9)}) || is.Reference != "registry.example/app:2" {
				t.Errorf("%+v, %v", is, err)
			}
		})
	}
}

// Only root's own files count.
func TestContainerdsFilesMustBeRoots(t *testing.T) {
	for name, change := range map[string]func(x *host, bundle string){
		"for the world":  func(x *host, _ string) { os.Chmod(filepath.Join(x.Dir, metaDB), 0o666) },
		"in a directory": func(x *host, _ string) { os.Chmod(filepath.Dir(filepath.Join(x.Dir, metaDB)), 0o777) },
		"a symlink": func(x *host, _ string) {
			at := filepath.Join(x.Dir, metaDB)
			os.Rename(at, at+"2")
			x.Symlink(at+"2", at)
		},
		"a FIFO": func(x *host, _ string) {
			at := filepath.Join(x.Dir, metaDB)
			os.Remove(at)
			if err := unix.Mkfifo(at, 0o600); err != nil {
				x.Fatal(err)
			}
		},
		"no link":          func(_ *host, bundle string) { os.Remove(bundle + "/work") },
		"a link elsewhere": func(x *host, bundle string) { os.Remove(bundle + "/work"); x.Symlink("/srv/x", bundle+"/work") },
		"a link of another's": func(x *host, bundle string) {
			os.Remove(bundle + "/work")
			x.Symlink(x.Dir+"/root/io.containerd.runtime.v2.task/k8s.io/"+id(2), bundle+"/work")
		},
		"no database": func(x *host, _ string) { x.Write(metaDB, make([]byte, 1<<16)) },
	} {
		t.Run(name, func(t *testing.T) {
			x := newHost(t)
			image := x.blob(blobs, imageText)
			manifest := x.blob(blobs, `{"schemaVersion":2,"config":{"digest":"`+image+`"},"layers":[]}`)
			bundle := x.containerd(map[string]string{
				"containers|" + id(1) + "|image": "a", "images|a|target|digest": manifest, "snapshots|overlayfs|x|kind": "x",
			})
			if is, err := x.reader.Containerd(bundle); err != nil || is.Image == nil || is.Image.Digest != image {
				t.Fatalf("%+v, %v", is, err)
			}
			change(x, bundle)
			if is, err := x.reader.Containerd(bundle); err == nil || is.Image != nil {
				t.Errorf("counts as root's: %+v", is)
			}
		})
	}
}

func FuzzCRIImage(f *testing.F) {
	f.Add(anyOf(`{"Metadata":{"ImageRef":"sha256:00"}}`))
	f.Add(anyOf(`{"Metadata":{}}`) + anyOf(`{`))
	f.Add("\x12\xff\xff\xff\xff\x0f")
	f.Fuzz(func(t *testing.T, any string) {
		if got := criImage(any); len(got) > len(any) {
			t.Errorf("%q of %q", got, any)
		}
	})
}
