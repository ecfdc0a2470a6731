// Package image answers: what does a stored image say of its containers?
//
// It reads an image's configuration, and of its layers /etc/passwd and /etc/group, from
// an OCI image layout (OCI image specification 1.1, image-layout.md) or from an archive
// as docker and podman save it. Each blob is checked by its digest before anything of
// it is believed.
package image

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/launch/predict"
)

// Bounds of an image.
const (
	maxJSON   = 4 << 20  // bytes of an index, a manifest, a configuration
	maxLayers = 512      // of one image
	maxDepth  = 4        // of indexes in indexes
	maxTree   = 64 << 30 // bytes of an unpacked layer
)

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations"`
	Platform    *struct {
		Architecture string `json:"architecture"`
		OS           string `json:"os"`
	} `json:"platform"`
}

// document is an index or a manifest: the members that tell.
type document struct {
	Manifests []descriptor `json:"manifests"`
	Config    *descriptor  `json:"config"`
	Layers    []descriptor `json:"layers"`

	digest string // of the manifest
}

// Read reads the image of an OCI image layout, or of an unpacked archive of docker's or
// podman's. Where there are several, tag chooses: a tag, or a name with one.
func Read(files fs.FS, tag string) (predict.Image, error) {
	s := store{files}
	if _, err := fs.Stat(files, "index.json"); err == nil {
		d, err := s.fromIndex(tag)
		if err != nil {
			return predict.Image{}, err
		}
		return s.image(d)
	}
	if _, err := fs.Stat(files, "manifest.json"); err == nil {
		return s.archive(tag)
	}
	return predict.Image{}, errors.New("neither index.json of an OCI image layout nor manifest.json of `docker save` is there")
}

// store are the files of an image.
type store struct{ fs.FS }

// small reads a JSON file of bounded size.
func (s store) small(name string) ([]byte, error) {
	f, err := s.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxJSON+1))
	if err == nil && len(text) > maxJSON {
		err = fmt.Errorf("%s must have at most %d bytes", name, maxJSON)
	}
	return text, err
}

var digestForm = regexp.MustCompile(`^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$`)

func hasher(digest string) (hash.Hash, error) {
	switch {
	case !digestForm.MatchString(digest):
		return nil, fmt.Errorf("the digest %.80q must be sha256 or sha512 in lower-case hex", digest)
	case strings.HasPrefix(digest, "sha512:"):
		return sha512.New(), nil
	}
	return sha256.New(), nil
}

func place(digest string) string { return path.Join("blobs", strings.Replace(digest, ":", "/", 1)) }

// blob reads a small blob and checks its digest.
func (s store) blob(digest string) ([]byte, error) {
	sum, err := hasher(digest)
	if err != nil {
		return nil, err
	}
	text, err := s.small(place(digest))
	if err != nil {
		return nil, err
	}
	sum.Write(text)
	return text, match(digest, sum)
}

func match(digest string, sum hash.Hash) error {
	_, want, _ := strings.Cut(digest, ":")
	if got := hex.EncodeToString(sum.Sum(nil)); got != want {
		return fmt.Errorf("the blob %s has the digest %s: the image is damaged", digest, got)
	}
	return nil
}

// fromIndex finds the manifest of an image in index.json.
func (s store) fromIndex(tag string) (document, error) {
	text, err := s.small("index.json")
	if err != nil {
		return document{}, err
	}
	d, err := parse(text)
	if err != nil {
		return d, fmt.Errorf("index.json: %w", err)
	}
	var named []descriptor
	var names []string
	for _, m := range d.Manifests {
		name := m.Annotations["org.opencontainers.image.ref.name"]
		names = append(names, name)
		if tag == "" || fits(name, tag) || fits(m.Annotations["io.containerd.image.name"], tag) {
			named = append(named, m)
		}
	}
	d.Manifests = named
	if len(named) == 0 {
		return d, fmt.Errorf("index.json has no image %q: it has %q", tag, names)
	}
	return s.choose(d, 0)
}

// fits reports whether a name is the tag, or ends with it.
func fits(name, tag string) bool {
	return name == tag || strings.HasSuffix(name, ":"+tag) || strings.HasSuffix(name, "/"+tag)
}

// choose follows an index to the manifest for the platform of a TD.
func (s store) choose(d document, depth int) (document, error) {
	for ; len(d.Manifests) > 0; depth++ {
		list := slices.DeleteFunc(slices.Clone(d.Manifests), func(m descriptor) bool {
			return m.Platform != nil && (m.Platform.OS != "linux" || m.Platform.Architecture != "amd64")
		})
		switch {
		case depth == maxDepth:
			return d, fmt.Errorf("more than %d indexes within each other", maxDepth)
		case len(list) == 0:
			return d, errors.New("there is no image for linux on amd64")
		case slices.ContainsFunc(list, func(m descriptor) bool { return m.Digest != list[0].Digest }):
			return d, fmt.Errorf("there are %d images: name one by its tag", len(list))
		}
		text, err := s.blob(list[0].Digest)
		if err != nil {
			return d, err
		}
		if d, err = parse(text); err != nil {
			return d, fmt.Errorf("%s: %w", list[0].Digest, err)
		}
		d.digest = list[0].Digest
	}
	if d.Config == nil {
		return d, errors.New("the manifest names no configuration")
	}
	return d, nil
}

func parse(text []byte) (document, error) {
	var d document
	if err := json.Unmarshal(text, &d); err != nil {
		return d, fmt.Errorf("no index or manifest: %w", err)
	}
	return d, nil
}

// image reads the configuration and the layers of a manifest.
func (s store) image(d document) (predict.Image, error) {
	text, err := s.blob(d.Config.Digest)
	if err != nil {
		return predict.Image{}, err
	}
	config, err := launch.ParseImageConfig(text)
	if err != nil {
		return predict.Image{}, err
	}
	var layers []layer
	for _, l := range d.Layers {
		layers = append(layers, layer{place(l.Digest), l.Digest})
	}
	i, err := s.finish(config, text, layers)
	i.Manifest = d.digest
	return i, err
}

// archive reads manifest.json of `docker save`, whose blobs have no digests of their
// own: the configuration is named by its digest, and names those of the layers.
func (s store) archive(tag string) (predict.Image, error) {
	text, err := s.small("manifest.json")
	if err != nil {
		return predict.Image{}, err
	}
	var list []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := json.Unmarshal(text, &list, json.MatchCaseInsensitiveNames(true)); err != nil {
		return predict.Image{}, fmt.Errorf("manifest.json: %w", err)
	}
	var found []int
	var names []string
	for i, m := range list {
		names = append(names, m.RepoTags...)
		if tag == "" || slices.ContainsFunc(m.RepoTags, func(name string) bool { return fits(name, tag) }) {
			found = append(found, i)
		}
	}
	if len(found) != 1 {
		return predict.Image{}, fmt.Errorf("manifest.json has %d images %q: name one by its tag", len(found), names)
	}
	m := list[found[0]]
	if text, err = s.small(m.Config); err != nil {
		return predict.Image{}, err
	}
	config, err := launch.ParseImageConfig(text)
	if err != nil {
		return predict.Image{}, err
	}
	var layers []layer
	for _, l := range m.Layers {
		layers = append(layers, layer{l, ""})
	}
	return s.finish(config, text, layers)
}

// finish reads the users from the layers.
func (s store) finish(config *launch.ImageConfig, text []byte, layers []layer) (predict.Image, error) {
	var c struct {
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(text, &c, json.MatchCaseInsensitiveNames(true)); err != nil {
		return predict.Image{}, fmt.Errorf("the configuration: %w", err)
	}
	if len(layers) > maxLayers || len(layers) != len(c.RootFS.DiffIDs) {
		return predict.Image{}, fmt.Errorf("the manifest has %d layers and the configuration %d: they must be as many, and at most %d", len(layers), len(c.RootFS.DiffIDs), maxLayers)
	}
	users, err := s.users(layers, c.RootFS.DiffIDs)
	return predict.Image{Config: config, Users: users}, err
}
