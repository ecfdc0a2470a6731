package engine

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Image is the root file system of an image: a tar archive in the making.
type Image struct {
	buffer bytes.Buffer
	tar    *tar.Writer
	err    error // the first error
}

// NewImage begins an image from scratch.
func NewImage() *Image {
	i := &Image{}
	i.tar = tar.NewWriter(&i.buffer)
	return i
}

// Text adds an executable file.
func (i *Image) Text(name string, text []byte) *Image {
	return i.add(tar.Header{Name: strings.TrimPrefix(name, "/"), Mode: 0o755, Size: int64(len(text))}, text)
}

// Folder adds a folder.
func (i *Image) Folder(name string, mode int64) *Image {
	return i.add(tar.Header{Name: strings.TrimPrefix(name, "/") + "/", Typeflag: tar.TypeDir, Mode: mode}, nil)
}

// Link adds a symbolic link.
func (i *Image) Link(name, target string) *Image {
	return i.add(tar.Header{Name: strings.TrimPrefix(name, "/"), Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o777}, nil)
}

func (i *Image) add(h tar.Header, text []byte) *Image {
	if i.err == nil {
		i.err = i.tar.WriteHeader(&h)
	}
	if i.err == nil {
		_, i.err = i.tar.Write(text)
	}
	return i
}

// File adds a file of this machine under a name. It follows symbolic links.
func (i *Image) File(name, from string) *Image {
	text, err := os.ReadFile(from)
	if err != nil {
		i.err = cmpErr(i.err, err)
		return i
	}
	return i.Text(name, text)
}

// Tree adds the regular files below a folder of this machine, without the
// folders that skip names.
func (i *Image) Tree(name, from string, skip ...string) *Image {
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			for _, s := range skip {
				if d.Name() == s {
					return fs.SkipDir
				}
			}
			return nil
		}
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() {
			return nil // a link to a folder, or to nothing
		}
		below, err := filepath.Rel(from, path)
		if err == nil {
			i.File(filepath.Join(name, below), path)
		}
		return err
	})
	i.err = cmpErr(i.err, err)
	return i
}

func cmpErr(first, next error) error {
	if first != nil {
		return first
	}
	return next
}

// Bytes is the whole archive.
func (i *Image) Bytes() ([]byte, error) {
	i.err = cmpErr(i.err, i.tar.Close())
	return i.buffer.Bytes(), i.err
}

// Import has the engine make an image. A second image of the same files has
// another digest, because engines record the time.
func (e *Engine) Import(ctx context.Context, name string, i *Image) error {
	layer, err := i.Bytes()
	if err != nil {
		return err
	}
	if _, err := e.Do(ctx, string(layer), "import", "-", name); err != nil {
		return fmt.Errorf("import the image %s: %w", name, err)
	}
	return nil
}
