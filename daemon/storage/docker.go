package storage

import (
	"encoding/json/v2"
	"path"
	"slices"
	"strings"

	"github.com/cima-project/cima/daemon/launch"
)

// dockerContainer is the part of interest in config.v2.json (moby, container.Container).
type dockerContainer struct {
	ID            string
	Image         string // id of the image: by its configuration, or (containerd's store) its manifest or index
	ImageManifest *struct {
		Digest string `json:"digest"`
	} // of the platform, where images lie in containerd's store
	Config struct {
		Labels map[string]launch.Text
	}
	MountPoints map[string]struct {
		Type, Name, Driver string
		Spec               struct { // as it was asked for
			Source        string
			VolumeOptions *struct {
				Subpath      string
				DriverConfig *struct{ Options map[string]string }
			}
		}
	}
}

// dockerHost is the part of interest in hostconfig.json (moby, container.HostConfig).
type dockerHost struct {
	NetworkMode, IpcMode string
	VolumesFrom          []string
}

// systemContainerd is where the system's containerd keeps its content. One of docker's own
// has it below docker's storage.
const systemContainerd = "/var/lib/containerd"

// Docker returns what docker's files say of the container whose root file system is
// mounted at this path.
func (r *Reader) Docker(id, rootPath string) (c Container) {
	root := launch.StorageRoot(rootPath)
	if root == "" || !launch.IsID(id) {
		return c
	}
	dir := path.Join(root, "containers", id)
	var is dockerContainer
	if !r.decode(path.Join(dir, "config.v2.json"), &is) || is.ID != id {
		return c
	}
	c = Container{Labels: is.Config.Labels, dir: dir, volumes: path.Join(root, "volumes"), nameless: make(map[string]bool)}
	for _, m := range is.MountPoints {
		plain := m.Type == "volume" && m.Driver == "local" && m.Spec.Source == ""
		if o := m.Spec.VolumeOptions; o != nil {
			plain = plain && o.Subpath == "" && (o.DriverConfig == nil || len(o.DriverConfig.Options) == 0)
		}
		if plain {
			c.nameless[m.Name] = true
		}
	}
	var host dockerHost
	if known := r.decode(path.Join(dir, "hostconfig.json"), &host); !known || len(host.VolumesFrom) > 0 {
		c.inherited = true
	}
	c.Network, c.ipc = containerOf(host.NetworkMode), containerOf(host.IpcMode)
	if raw := r.dockerImage(root, strings.TrimPrefix(rootPath, root+"/"), is); raw != nil {
		c.Image, _ = launch.ParseImageConfig(raw)
	}
	return c
}

// containerOf returns the container that a mode names, "" where it names none.
func containerOf(mode string) string {
	if id, ok := strings.CutPrefix(mode, "container:"); ok && launch.IsID(id) {
		return id
	}
	return ""
}

// decode reads a file of root's.
func (r *Reader) decode(file string, into any) bool {
	raw, _, owner, err := r.Trust.ReadFile(file, maxContainer)
	return err == nil && owner == 0 && json.Unmarshal(raw, into) == nil
}

// dockerImage returns the configuration of the image, if the root file system is the one
// that docker made of it for this container; below is its path from docker's storage.
func (r *Reader) dockerImage(root, below string, is dockerContainer) []byte {
	parts := strings.Split(below, "/")
	if parts[0] != "rootfs" {
		at := path.Join(root, "image", parts[0])
		mount, _, owner, err := r.Trust.ReadFile(path.Join(at, "layerdb/mounts", is.ID, "mount-id"), maxName)
		if err != nil || owner != 0 || !slices.Contains(parts[1:], strings.TrimSpace(string(mount))) {
			return nil
		}
		raw, err := r.content(path.Join(at, "imagedb/content/sha256"), is.Image, maxImageConfig, 0)
		if err != nil {
			return nil
		}
		return raw
	}
	if parts[len(parts)-1] != is.ID {
		return nil
	}
	manifest := is.Image
	if is.ImageManifest != nil {
		manifest = is.ImageManifest.Digest
	}
	for _, store := range []string{path.Join(root, "containerd/daemon"), systemContainerd} {
		if raw := r.configOf(path.Join(store, "io.containerd.content.v1.content/blobs/sha256"), manifest); raw != nil {
			return raw
		}
	}
	return nil
}

// configOf returns the configuration that a manifest in containerd's content names.
func (r *Reader) configOf(blobs, manifest string) []byte {
	raw, err := r.content(blobs, manifest, maxImageConfig, 0)
	var m struct {
		Config struct {
			Digest string `json:"digest"`
		} `json:"config"`
	}
	if err != nil || json.Unmarshal(raw, &m) != nil {
		return nil
	}
	raw, err = r.content(blobs, m.Config.Digest, maxImageConfig, 0)
	if err != nil {
		return nil
	}
	return raw
}
