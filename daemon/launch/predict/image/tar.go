package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"
)

// maxEntries bounds the files of an archive.
const maxEntries = 1 << 16

// Archive gives the regular files of a tar archive that lies on a disk.
func Archive(r io.ReaderAt, size int64) (fs.FS, error) {
	a := archive{r: r, parts: make(map[string]part)}
	at := &position{section: io.NewSectionReader(r, 0, size)}
	for t := tar.NewReader(at); ; {
		h, err := t.Next()
		if err == io.EOF {
			return a, nil
		}
		if err != nil {
			return nil, fmt.Errorf("no tar archive: %w", err)
		}
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		switch h.Typeflag {
		case tar.TypeReg:
			if sparse(h) {
				return nil, fmt.Errorf("%s is sparse in the archive: it must be plain", name)
			}
			a.parts[name] = part{at.offset, h.Size, ""}
		case tar.TypeSymlink: // docker saves a layer that two images have once
			a.parts[name] = part{link: strings.TrimPrefix(path.Join("/", path.Dir(name), h.Linkname), "/")}
		case tar.TypeLink:
			a.parts[name] = part{link: strings.TrimPrefix(path.Clean("/"+h.Linkname), "/")}
		}
		if len(a.parts) > maxEntries {
			return nil, fmt.Errorf("an archive must have at most %d files", maxEntries)
		}
	}
}

func sparse(h *tar.Header) bool {
	for name := range h.PAXRecords {
		if strings.HasPrefix(name, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// position knows how far a reader has come, so that an entry's content is found again.
type position struct {
	section *io.SectionReader
	offset  int64
}

func (p *position) Read(b []byte) (int, error) {
	n, err := p.section.Read(b)
	p.offset += int64(n)
	return n, err
}

// Seek lets archive/tar skip contents.
func (p *position) Seek(offset int64, whence int) (int64, error) {
	n, err := p.section.Seek(offset, whence)
	p.offset = n
	return n, err
}

type part struct {
	offset, size int64
	link         string
}

type archive struct {
	r     io.ReaderAt
	parts map[string]part
}

// Open opens a file of the archive, and follows links.
func (a archive) Open(name string) (fs.File, error) {
	at := path.Clean(name)
	for range 8 {
		p, ok := a.parts[at]
		switch {
		case !ok:
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		case p.link == "":
			return &entry{io.NewSectionReader(a.r, p.offset, p.size), path.Base(at), p.size}, nil
		}
		at = p.link
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("too many links")}
}

// entry is an open file of an archive.
type entry struct {
	*io.SectionReader
	name string
	size int64
}

func (e *entry) Stat() (fs.FileInfo, error) { return e, nil }
func (e *entry) Close() error               { return nil }
func (e *entry) Name() string               { return e.name }
func (e *entry) Size() int64                { return e.size }
func (e *entry) Mode() fs.FileMode          { return 0o444 }
func (e *entry) ModTime() time.Time         { return time.Time{} }
func (e *entry) IsDir() bool                { return false }
func (e *entry) Sys() any                   { return nil }
