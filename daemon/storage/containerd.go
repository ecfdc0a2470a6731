package storage

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/storage/bolt"
)

// errNoImage says that containerd's record names no image: the container has a root file
// system that somebody else made.
var errNoImage = errors.New("containerd's record of the container names no image that its root file system is made of")

// criMetadata is where the CRI plugin keeps what it knows of a container
// (containerd, internal/cri/labels).
const criMetadata = "io.cri-containerd.container.metadata"

// Containerd returns what containerd's database says of the container of this bundle, which
// lies below containerd's namespace (containerd, metadata/buckets.go). The image is the one whose layers the container's own
// snapshot stands on; the name of a tag may belong to another one by now.
//
// Nobody is asked, and no lock is taken: containerd holds it, and may be waiting for the
// daemon (package bolt).
func (r *Reader) Containerd(bundle string) (c Container, err error) {
	id, namespace := path.Base(bundle), path.Base(path.Dir(bundle))
	root, err := containerdRoot(namespace, id, bundle)
	if err != nil {
		return c, err
	}
	file, err := r.Trust.OpenFile(path.Join(root, "io.containerd.metadata.v1.bolt/meta.db"))
	if err != nil {
		return c, err
	}
	defer file.Close()
	var is containerdRecord
	if err := bolt.View(file, func(root *bolt.Bucket) { is = readContainerd(root.Bucket("v1").Bucket(namespace), id) }); err != nil {
		return c, fmt.Errorf("%s: %w", file.Name(), err)
	}
	c.Reference = is.image
	blobs := path.Join(root, "io.containerd.content.v1.content/blobs/sha256")
	for _, digest := range r.configs(blobs, is) {
		raw, err := r.content(blobs, digest, maxImageConfig, 0)
		if err != nil {
			continue
		}
		if layers, ok := layersOf(raw); ok && chainID(layers) == is.parent {
			c.Layers = layers
			c.Image, err = launch.ParseImageConfig(raw)
			return c, err
		}
	}
	return c, errNoImage
}

// containerdRoot finds where containerd keeps its files from the link that it makes in each
// bundle, next to config.json. Whoever wrote the one wrote the other.
func containerdRoot(namespace, id, bundle string) (string, error) {
	work, err := os.Readlink(path.Join(bundle, "work"))
	if err != nil {
		return "", err
	}
	root, ok := strings.CutSuffix(work, path.Join("/io.containerd.runtime.v2.task", namespace, id))
	if !ok || !path.IsAbs(root) || path.Clean(work) != work {
		return "", fmt.Errorf("%s leads to %.100q, and must lead to a directory of containerd's for %s", path.Join(bundle, "work"), work, id)
	}
	return root, nil
}

// containerdRecord is what the database says of a container.
type containerdRecord struct {
	image  string // name
	target string // digest of the manifest or index that has the name now
	cri    string // the CRI plugin's own record
	parent string // of the container's snapshot: what it stands on
}

func readContainerd(namespace *bolt.Bucket, id string) (is containerdRecord) {
	container := namespace.Bucket("containers").Bucket(id)
	is.image = container.Get("image")
	is.target = namespace.Bucket("images").Bucket(is.image).Bucket("target").Get("digest")
	is.cri = container.Bucket("extensions").Get(criMetadata)
	is.parent = namespace.Bucket("snapshots").Bucket(container.Get("snapshotter")).Bucket(container.Get("snapshotKey")).Get("parent")
	return is
}

// maxPlatforms bounds how many images of an index are looked at.
const maxPlatforms = 64

// configs are the digests of configurations that may be the image's: the one that the CRI
// plugin notes, else those that the image's name leads to.
func (r *Reader) configs(blobs string, is containerdRecord) []string {
	if config := criImage(is.cri); config != "" {
		return []string{config}
	}
	if is.target == "" {
		return nil
	}
	var of struct {
		Config    *named  `json:"config"`
		Manifests []named `json:"manifests"`
	}
	raw, err := r.content(blobs, is.target, maxImageConfig, 0)
	switch {
	case err != nil || json.Unmarshal(raw, &of) != nil || len(of.Manifests) > maxPlatforms:
		return nil
	case of.Config != nil:
		return []string{of.Config.Digest}
	}
	var found []string
	for _, m := range of.Manifests {
		var manifest struct {
			Config named `json:"config"`
		}
		if raw, err := r.content(blobs, m.Digest, maxImageConfig, 0); err == nil && json.Unmarshal(raw, &manifest) == nil {
			found = append(found, manifest.Config.Digest)
		}
	}
	return found
}

// named is a descriptor of the OCI image specification.
type named struct {
	Digest string `json:"digest"`
}

// criImage reads which image the CRI plugin made the container of: a google.protobuf.Any
// whose value is JSON.
func criImage(any string) string {
	raw := []byte(any)
	var value []byte
	for len(raw) > 0 {
		number, kind, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return ""
		}
		size := protowire.ConsumeFieldValue(number, kind, raw[n:])
		if size < 0 {
			return ""
		}
		if number == 2 && kind == protowire.BytesType {
			value, _ = protowire.ConsumeBytes(raw[n:])
		}
		raw = raw[n+size:]
	}
	var of struct {
		Metadata struct {
			ImageRef string
		}
	}
	if json.Unmarshal(value, &of) != nil {
		return ""
	}
	return of.Metadata.ImageRef
}

// layersOf are the diff ids of an image's configuration.
func layersOf(config []byte) (layers []string, ok bool) {
	var of struct {
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	return of.RootFS.DiffIDs, json.Unmarshal(config, &of) == nil
}

// chainID names what layers come to, one upon the other (OCI image specification 1.1,
// config.md).
func chainID(layers []string) (chain string) {
	for i, layer := range layers {
		if i == 0 {
			chain = layer
			continue
		}
		sum := sha256.Sum256([]byte(chain + " " + layer))
		chain = "sha256:" + hex.EncodeToString(sum[:])
	}
	return chain
}
