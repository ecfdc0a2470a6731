package storage

import (
	"context"
	"encoding/base64"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/trust"
)

// Stored is an entry of a list of containers/storage (go.podman.io/storage,
// containers.go).
type Stored struct {
	ID       string `json:"id"`
	Image    string `json:"image"`    // id: the digest of its configuration
	Layer    string `json:"layer"`    // id of the one that the container may write
	Metadata string `json:"metadata"` // JSON of the engine's
}

// list is one that was read, in this version of its file.
type list struct {
	stamp trust.Stamp
	byID  map[string]Stored
}

// maxLists bounds how many lists are remembered.
const maxLists = 16

var usualRoots = []string{"/var/lib/containers/storage", "/run/containers/storage"}

var errNotStored = errors.New("containers/storage lists no such container")

// Podman returns what the files of containers/storage say of a container of root's. It
// serves podman and cri-o.
func (r *Reader) Podman(ctx context.Context, id, bundle, rootPath string) (c Container) {
	c = Container{dir: path.Dir(bundle)}
	root := launch.StorageRoot(rootPath)
	if root == "" || !launch.IsID(id) {
		return Container{}
	}
	c.volumes = path.Join(root, "volumes")
	is, err := r.Find(ctx, bundle, id, 0)
	if err != nil || is.Layer == "" || !slices.Contains(strings.Split(rootPath, "/"), is.Layer) {
		return c
	}
	if raw, err := r.ImageConfig(bundle, is.Image, 0); err == nil {
		c.Image, _ = launch.ParseImageConfig(raw)
	}
	return c
}

// intermediate is where podman 5 mounts the root file system of a container that has a user
// namespace. Only its runtime sees that mount; in the host's mount namespace everybody may
// make a directory of this name.
const intermediate = "/var/tmp/intermediate-mountpoint-"

// Root returns where the root file system of a container of root's is in the host's mount
// namespace. That is what config.json says. Of podman's intermediate mount point it is the
// mount of the layer that containers/storage lists beside the bundle, and "" if there is none.
func (r *Reader) Root(ctx context.Context, id, bundle, rootPath string) string {
	if !strings.HasPrefix(rootPath, intermediate) {
		return rootPath
	}
	is, err := r.Find(ctx, bundle, id, 0)
	roots, driver := r.where(bundle, 0)
	if err != nil || !launch.IsID(is.Layer) || driver != "overlay" {
		return ""
	}
	return path.Join(roots[0], driver, is.Layer, "merged")
}

// where returns the roots where a bundle's container may be listed, and the storage driver.
// The bundle is ROOT/DRIVER-containers/ID/userdata; cri-o's lies elsewhere than the lists.
func (r *Reader) where(bundle string, uid uint32) (roots []string, driver string) {
	containers := path.Dir(path.Dir(bundle))
	roots = []string{path.Dir(containers)}
	if uid == 0 {
		if r.Roots == nil {
			roots = append(roots, usualRoots...)
		}
		roots = append(roots, r.Roots...)
	}
	return roots, strings.TrimSuffix(path.Base(containers), "-containers")
}

// Find returns the entry of a container in the first list that has it. The lists must
// belong to this user.
func (r *Reader) Find(ctx context.Context, bundle, id string, uid uint32) (Stored, error) {
	roots, driver := r.where(bundle, uid)
	for _, root := range roots {
		for _, name := range []string{"containers.json", "volatile-containers.json"} {
			if err := ctx.Err(); err != nil {
				return Stored{}, err
			}
			byID, err := r.list(path.Join(root, driver+"-containers", name), uid)
			if err != nil {
				return Stored{}, err
			}
			if is, ok := byID[id]; ok {
				return is, nil
			}
		}
	}
	return Stored{}, fmt.Errorf("%w: %s must be in a list of %s", errNotStored, id, strings.Join(roots, ", "))
}

// list reads a list, from memory where its file has not changed. One that isn't there,
// or isn't this user's, is empty.
func (r *Reader) list(file string, uid uint32) (map[string]Stored, error) {
	r.mu.Lock()
	known, ok := r.lists[file]
	r.mu.Unlock()
	if ok && trust.Unchanged(file, known.stamp, uid) {
		return known.byID, nil
	}
	raw, now, owner, err := r.Trust.ReadFile(file, maxList)
	if err != nil || owner != uid {
		return nil, nil
	}
	var all []Stored
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	byID := make(map[string]Stored, len(all))
	for _, s := range all {
		byID[s.ID] = s
	}
	if uid != 0 {
		return byID, nil // users could fill the memory
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lists == nil || len(r.lists) >= maxLists {
		r.lists = make(map[string]list)
	}
	r.lists[file] = list{now, byID}
	return byID, nil
}

// ImageConfig returns the bytes of an image's configuration. The image's id is their
// digest, and the file's name is that digest in base64.
func (r *Reader) ImageConfig(bundle, image string, uid uint32) ([]byte, error) {
	if !launch.IsID(image) {
		return nil, fmt.Errorf("%.100q must be an image's id", image)
	}
	name := "=" + base64.StdEncoding.EncodeToString([]byte("sha256:"+image))
	roots, driver := r.where(bundle, uid)
	for _, root := range roots {
		raw, err := r.digested(path.Join(root, driver+"-images", image, name), image, maxImageConfig, uid)
		if !errors.Is(err, fs.ErrNotExist) {
			return raw, err
		}
	}
	return nil, fmt.Errorf("image %s: %w", image, fs.ErrNotExist)
}
