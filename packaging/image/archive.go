package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path"
	"time"
)

// archive writes the whole image.
func (o options) archive(to io.Writer) error {
	w := &tarball{tar: tar.NewWriter(to), at: o.created}
	w.file("oci-layout", 0o644, []byte(`{"imageLayoutVersion":"1.0.0"}`))
	all := manifest{SchemaVersion: 2, MediaType: indexType}
	var docker []map[string]any
	for i, p := range o.platforms {
		one, layer, config, err := o.platform(w, p)
		if err != nil {
			return err
		}
		all.Manifests = append(all.Manifests, one)
		if i == 0 {
			docker = append(docker, map[string]any{
				"Config": blobName(config), "RepoTags": []string{o.name + ":" + o.tag}, "Layers": []string{blobName(layer)},
			})
		}
	}
	whole := w.blob(indexType, encode(all))
	whole.Annotations = map[string]string{"io.containerd.image.name": o.name + ":" + o.tag, "org.opencontainers.image.ref.name": o.tag}
	w.file("index.json", 0o644, encode(manifest{SchemaVersion: 2, MediaType: indexType, Manifests: []descriptor{whole}}))
	w.file("manifest.json", 0o644, encode(docker))
	return w.close()
}

// platform writes the blobs of one platform.
func (o options) platform(w *tarball, p platform) (one descriptor, layer, configuration string, err error) {
	program, err := os.ReadFile(p.file)
	if err != nil {
		return one, "", "", err
	}
	notice, err := os.ReadFile(o.notice)
	if err != nil {
		return one, "", "", err
	}
	name := path.Base(o.name)
	var plain bytes.Buffer
	files := &tarball{tar: tar.NewWriter(&plain), at: o.created}
	files.file(name, 0o755, program)
	for _, dir := range []string{"usr/", "usr/share/", "usr/share/doc/", "usr/share/doc/" + name + "/"} {
		files.folder(dir)
	}
	files.file("usr/share/doc/"+name+"/NOTICE", 0o644, notice)
	if err := files.close(); err != nil {
		return one, "", "", err
	}
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err == nil {
		_, err = z.Write(plain.Bytes())
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		return one, "", "", err
	}
	c := config{Created: o.created, Architecture: p.arch, OS: "linux"}
	c.Config.User, c.Config.Entrypoint = "65534:65534", []string{"/" + name}
	c.Config.Labels = map[string]string{
		"org.opencontainers.image.title": name, "org.opencontainers.image.version": o.tag,
		"org.opencontainers.image.licenses": "Apache-2.0", "org.opencontainers.image.source": "https://github.com/cima-project/cima",
	}
	c.RootFS.Type, c.RootFS.DiffIDs = "layers", []string{digest(plain.Bytes())}
	c.History = []history{{o.created, "packaging/image"}}
	layerAt, configAt := w.blob(layerType, packed.Bytes()), w.blob(configType, encode(c))
	one = w.blob(manifestType, encode(manifest{SchemaVersion: 2, MediaType: manifestType, Config: &configAt, Layers: []descriptor{layerAt}}))
	one.Platform = &machine{p.arch, "linux"}
	return one, layerAt.Digest, configAt.Digest, w.err
}

// tarball is a tar archive in which everything is root's and of one time.
type tarball struct {
	tar *tar.Writer
	at  time.Time
	err error // the first one
}

func (w *tarball) add(h tar.Header, text []byte) {
	h.ModTime, h.Format = w.at, tar.FormatUSTAR
	if w.err == nil {
		w.err = w.tar.WriteHeader(&h)
	}
	if w.err == nil {
		_, w.err = w.tar.Write(text)
	}
}

func (w *tarball) file(name string, mode int64, text []byte) {
	w.add(tar.Header{Name: name, Mode: mode, Size: int64(len(text))}, text)
}

func (w *tarball) folder(name string) {
	w.add(tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}, nil)
}

// blob writes bytes under their digest.
func (w *tarball) blob(mediaType string, text []byte) descriptor {
	d := digest(text)
	w.file(blobName(d), 0o644, text)
	return descriptor{MediaType: mediaType, Digest: d, Size: len(text)}
}

func (w *tarball) close() error {
	if w.err != nil {
		return w.err
	}
	return w.tar.Close()
}

func digest(text []byte) string {
	sum := sha256.Sum256(text)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func blobName(digest string) string { return "blobs/sha256/" + digest[len("sha256:"):] }
