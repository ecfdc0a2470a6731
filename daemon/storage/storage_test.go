package storage

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/launch/launchtest"
)

var id = launchtest.ID

// host is a tree of files of an engine's.
type host struct {
	*launchtest.Tree
	reader *Reader
}

func newHost(t *testing.T) *host {
	t.Helper()
	x := &host{Tree: launchtest.NewTree(t), reader: &Reader{Roots: []string{}}}
	x.reader.Trust.Root = uint32(os.Getuid())
	return x
}

// blob writes bytes under their own digest, and returns it.
func (x *host) blob(dir, text string) string {
	x.Helper()
	sum := sha256.Sum256([]byte(text))
	x.Write(filepath.Join(dir, hex.EncodeToString(sum[:])), []byte(text))
	return "sha256:" + hex.EncodeToString(sum[:])
}

const imageText = `{"config":{"Env":["PATH=/bin","A=b"],"Labels":{"a":"b"}},"rootfs":{"diff_ids":[]}}`

// docker writes what docker has of container 1, and returns the path of its root file
// system and the digest of its image.
func (x *host) docker(mounts, hostConfig string) (rootPath, image string) {
	x.Helper()
	image = x.blob("lib/image/overlay2/imagedb/content/sha256", imageText)
	x.Write("lib/image/overlay2/layerdb/mounts/"+id(1)+"/mount-id", []byte("1234abcd"))
	x.Write("lib/containers/"+id(1)+"/hostconfig.json", []byte(hostConfig))
	x.Write("lib/containers/"+id(1)+"/config.v2.json", fmt.Appendf(nil,
		`{"ID":%q,"Image":%q,"Config":{"Labels":{"team":"a"}},"MountPoints":{%s},"State":{"Health":null}}`, id(1), image, mounts))
	return x.Dir + "/lib/overlay2/1234abcd/merged", image
}

func TestDockersImage(t *testing.T) {
	x := newHost(t)
	root, image := x.docker("", "{}")
	c := x.reader.Docker(id(1), root)
	if c.Image == nil || c.Image.Digest != image || len(c.Image.Environment) != 2 || c.Labels["team"] != "a" {
		t.Fatalf("%+v", c)
	}
	dir, file := "lib/image/overlay2/imagedb/content/sha256/"+strings.TrimPrefix(image, "sha256:"), "lib/containers/"+id(1)+"/config.v2.json"
	for name, change := range map[string]func(x *host) (rootPath string){
		"another root file system": func(x *host) string { return x.Dir + "/lib/overlay2/ffff/merged" },
		"no storage":               func(x *host) string { return "/srv/rootfs" },
		"other bytes":              func(x *host) string { x.Write(dir, []byte(imageText+" ")); return root },
		"an image's id is a path": func(x *host) string {
			x.Write(file, fmt.Appendf(nil, `{"ID":%q,"Image":"sha256:../../x"}`, id(1)))
			return root
		},
		"another's file": func(x *host) string {
			x.Write(file, fmt.Appendf(nil, `{"ID":%q,"Image":%q}`, id(2), image))
			return root
		},
		"a doubled member": func(x *host) string {
			x.Write(file, fmt.Appendf(nil, `{"ID":%q,"Image":"","Image":%q}`, id(1), image))
			return root
		},
		"half a file": func(x *host) string { x.Write(file, []byte(`{"ID":`)); return root },
		"for the world": func(x *host) string {
			os.Chmod(filepath.Join(x.Dir, file), 0o666)
			return root
		},
		"the image for the world": func(x *host) string {
			os.Chmod(filepath.Join(x.Dir, dir), 0o666)
			return root
		},
		"too large": func(x *host) string {
			x.Write(file, append(fmt.Appendf(nil, `{"ID":%q,"Image":%q}`, id(1), image), make([]byte, maxContainer)...))
			return root
		},
		"of another user": func(x *host) string {
			if os.Getuid() != 0 {
				launchtest.SkipUnavailable(x, "needs root: gives files to another user")
			}
			os.Chown(filepath.Join(x.Dir, dir), 1234, 1234)
			return root
		},
	} {
		t.Run(name, func(t *testing.T) {
			x := newHost(t)
			root, _ = x.docker("", "{}")
			if c := x.reader.Docker(id(1), change(x)); c.Image != nil {
				t.Errorf("counts as the container's image: %+v", c.Image)
			}
		})
	}
}

// With containerd's image store the container's file names a manifest.
func TestDockersImageOfContainerd(t *testing.T) {
	x := newHost(t)
	const blobs = "lib/containerd/daemon/io.containerd.content.v1.content/blobs/sha256"
	image := x.blob(blobs, imageText)
	manifest := x.blob(blobs, `{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"`+image+`","size":1},"layers":[]}`)
	index := x.blob(blobs, `{"schemaVersion":2,"manifests":[{"digest":"`+manifest+`"}]}`)
	for members, want := range map[string]string{
		`"Image":"` + index + `","ImageManifest":{"mediaType":"x","digest":"` + manifest + `","size":3,"platform":{"os":"linux"}}`: image,
		`"Image":"` + manifest + `"`: image,
		`"Image":"` + index + `"`:    "", // which platform?
		`"Image":"` + index + `","ImageManifest":{"digest":"` + image + `"}`:                             "",
		`"Image":"` + manifest + `","ImageManifest":{"digest":"sha256:` + strings.Repeat("0", 64) + `"}`: "",
	} {
		x.Write("lib/containers/"+id(1)+"/config.v2.json", []byte(`{"ID":"`+id(1)+`",`+members+`}`))
		c := x.reader.Docker(id(1), x.Dir+"/lib/rootfs/overlayfs/"+id(1))
		if got := c.Image; (got == nil) != (want == "") || got != nil && got.Digest != want {
			t.Errorf("%s: %+v, want %s", members, got, want)
		}
		if c := x.reader.Docker(id(1), x.Dir+"/lib/rootfs/overlayfs/"+id(2)); c.Image != nil {
			t.Errorf("%s: another's root file system counts", members)
		}
	}
}

func TestAnonymousVolumes(t *testing.T) {
	mount := func(at, name, source string) string {
		return fmt.Sprintf(`%q:{"Type":"volume","Name":%q,"Driver":"local","Spec":{"Source":%q}}`, at, name, source)
	}
	x := newHost(t)
	x.Mkdir("lib/volumes/" + id(7)) // there before the container
	root, _ := x.docker(strings.Join([]string{mount("/a", id(5), ""), mount("/b", id(6), id(6)), mount("/c", "named", "")}, ","),
		`{"NetworkMode":"container:`+id(3)+`","IpcMode":"container:../x","VolumesFrom":null}`)
	c := x.reader.Docker(id(1), root)
	for volume, want := range map[string]bool{id(5): true, id(6): false, "named": false, id(9): false, "": false} {
		if c.Anonymous(volume) != want {
			t.Errorf("docker, %q: %v", volume, !want)
		}
	}
	if c.Network != id(3) || !c.Shares(id(3)) || c.Shares(id(4)) || c.Shares("../x") || c.Shares("") {
		t.Errorf("%+v", c)
	}
	// What options mount on a volume isn't told by its having no name.
	root, _ = x.docker(`"/a":{"Type":"volume","Name":"`+id(5)+`","Driver":"local","Spec":{"VolumeOptions":{"DriverConfig":{"Options":{"device":"/etc"}}}}},
		"/b":{"Type":"volume","Name":"`+id(6)+`","Driver":"other","Spec":{}},"/c":{"Type":"volume","Name":"`+id(8)+`","Driver":"local","Spec":{"VolumeOptions":{"NoCopy":true}}}`, `{}`)
	c = x.reader.Docker(id(1), root)
	if c.Anonymous(id(5)) || c.Anonymous(id(6)) || !c.Anonymous(id(8)) {
		t.Errorf("with options: %v, %v; without: %v", c.Anonymous(id(5)), c.Anonymous(id(6)), c.Anonymous(id(8)))
	}
	// Another container's volumes have no name either: those that are older are its.
	root, _ = x.docker(mount("/a", id(7), "")+","+mount("/b", id(8), ""), `{"VolumesFrom":["x"]}`)
	x.Mkdir("lib/volumes/" + id(8))
	c = x.reader.Docker(id(1), root)
	if _, ok := born(x.Dir); !ok {
		launchtest.SkipUnavailable(t, "the file system doesn't note when a file was made")
	}
	if c.Anonymous(id(7)) || !c.Anonymous(id(8)) || c.Anonymous(id(5)) {
		t.Errorf("--volumes-from: %v, %v, %v", c.Anonymous(id(7)), c.Anonymous(id(8)), c.Anonymous(id(5)))
	}
	// Of podman the birth alone tells.
	bundle, merged := x.podman("")
	x.Mkdir("storage/volumes/" + id(6))
	p := x.reader.Podman(t.Context(), id(1), bundle, merged)
	if p.Anonymous(id(5)) || !p.Anonymous(id(6)) || p.Anonymous("named") || p.Anonymous(id(9)) {
		t.Errorf("podman: %v, %v", p.Anonymous(id(5)), p.Anonymous(id(6)))
	}
}

// A volume on which something is mounted has that for its content.
func TestMountedVolumes(t *testing.T) {
	x := newHost(t)
	bundle, root := x.podman("")
	data := x.Mkdir("storage/volumes/" + id(6) + "/_data")
	c := x.reader.Podman(t.Context(), id(1), bundle, root)
	if !c.Anonymous(id(6)) {
		t.Fatal("nothing is mounted")
	}
	if err := unix.Mount(x.Mkdir("elsewhere"), data, "", unix.MS_BIND, ""); err != nil {
		launchtest.SkipUnavailable(t, "no mounts: "+err.Error())
	}
	t.Cleanup(func() { unix.Unmount(data, unix.MNT_DETACH) })
	if c.Anonymous(id(6)) {
		t.Error("a bind on a volume's data counts as the volume")
	}
}

// podman writes what containers/storage has of container 1. Volume 5 is there before.
func (x *host) podman(layer string) (bundle, rootPath string) {
	x.Helper()
	x.Mkdir("storage/volumes/" + id(5))
	sum := sha256.Sum256([]byte(imageText))
	image := hex.EncodeToString(sum[:])
	bundle = x.Mkdir("storage/overlay-containers/" + id(1) + "/userdata")
	x.Write("storage/overlay-images/"+image+"/="+base64.StdEncoding.EncodeToString([]byte("sha256:"+image)), []byte(imageText))
	if layer == "" {
		layer = id(4)
	}
	x.Write("storage/overlay-containers/containers.json", fmt.Appendf(nil, `[{"id":%q},{"id":%q,"image":%q,"layer":%q,"names":["x"]}]`, id(9), id(1), image, layer))
	return bundle, x.Dir + "/storage/overlay/" + id(4) + "/merged"
}

func TestPodmansImage(t *testing.T) {
	x := newHost(t)
	bundle, root := x.podman("")
	if c := x.reader.Podman(t.Context(), id(1), bundle, root); c.Image == nil || len(c.Image.Environment) != 2 {
		t.Errorf("%+v", c)
	}
	if c := x.reader.Podman(t.Context(), id(2), bundle, root); c.Image != nil {
		t.Errorf("of a container that isn't listed: %+v", c.Image)
	}
	if c := x.reader.Podman(t.Context(), id(1), bundle, "/srv/rootfs"); c.Image != nil || c.Anonymous(id(5)) {
		t.Errorf("of another root file system: %+v", c.Image)
	}
	// The list is read again when it changes.
	x.podman(id(6))
	if c := x.reader.Podman(t.Context(), id(1), bundle, root); c.Image != nil {
		t.Errorf("of another layer: %+v", c.Image)
	}
}

// podman 5 gives the runtime of a container with a user namespace another place of its root
// file system than the host has. That place is never looked at: it is below /var/tmp.
func TestPodmansIntermediateRoot(t *testing.T) {
	x := newHost(t)
	bundle, root := x.podman("")
	const inside = "/var/tmp/intermediate-mountpoint-0.0"
	for _, tt := range []struct{ id, bundle, is, want string }{
		{id(1), bundle, inside, root},
		{id(1), bundle, root, root},
		{id(1), bundle, "/srv/rootfs", "/srv/rootfs"},
		{id(2), bundle, inside, ""},                      // not listed
		{id(9), bundle, inside, ""},                      // no layer
		{id(1), "/run/elsewhere/x/userdata", inside, ""}, // no bundle of containers/storage
	} {
		if got := x.reader.Root(t.Context(), tt.id, tt.bundle, tt.is); got != tt.want {
			t.Errorf("%s in %s: the root of %.8s is %s, must be %s", tt.is, tt.bundle, tt.id, got, tt.want)
		}
	}
	x.Write("storage/vfs-containers/containers.json", fmt.Appendf(nil, `[{"id":%q,"layer":%q}]`, id(1), id(4)))
	if got := x.reader.Root(t.Context(), id(1), x.Dir+"/storage/vfs-containers/"+id(1)+"/userdata", inside); got != "" {
		t.Errorf("vfs has no mounts, and a layer of it leads to %s", got)
	}
	x.podman("../../../../etc")
	if got := x.reader.Root(t.Context(), id(1), bundle, inside); got != "" {
		t.Errorf("a layer that is no id leads to %s", got)
	}
}

// Whatever an engine's files hold, nothing is read elsewhere, and nothing panics.
func FuzzDocker(f *testing.F) {
	f.Add([]byte(`{"ID":"`+id(1)+`","Image":"sha256:`+id(2)+`","MountPoints":{"/a":{"Type":"volume","Name":"x","Spec":{}}},"ImageManifest":{"digest":"sha256:`+id(3)+`"}}`), []byte(`{"NetworkMode":"container:`+id(4)+`"}`), []byte("1234abcd"))
	f.Add([]byte(`{"ID":"`+id(1)+`","MountPoints":{"/a":null},"Config":null}`), []byte(`null`), []byte("../.."))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, container, hostConfig, mount []byte) {
		x := &host{Tree: &launchtest.Tree{TB: t, Dir: dir}, reader: &Reader{}}
		x.reader.Trust.Root = uint32(os.Getuid())
		x.Write("lib/containers/"+id(1)+"/config.v2.json", container)
		x.Write("lib/containers/"+id(1)+"/hostconfig.json", hostConfig)
		x.Write("lib/image/overlay2/layerdb/mounts/"+id(1)+"/mount-id", mount)
		for _, root := range []string{"/lib/overlay2/1234abcd/merged", "/lib/rootfs/overlayfs/" + id(1)} {
			c := x.reader.Docker(id(1), dir+root)
			if c.Image != nil {
				t.Fatalf("an image that isn't there: %+v", c.Image)
			}
			for volume := range c.nameless {
				c.Anonymous(volume)
			}
		}
	})
}
