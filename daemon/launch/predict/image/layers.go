package image

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
	"strings"

	"github.com/cima-project/cima/daemon/launch/predict"
)

// layer is a file with a tar archive.
type layer struct {
	name   string // of the file
	digest string // of the file, or empty where only that of its content is known
}

// maxFound bounds the bytes of passwd and of group.
const maxFound = 4 << 20

// found is one file, as the layers show it from the uppermost down.
type found struct {
	text []byte
	done bool // a lower layer can't change it any more
}

// errForm is of a layer that can't be read here.
var errForm = errors.New("a layer's form is not known here")

// users finds /etc/passwd and /etc/group. The uppermost layer that has a file, or hides
// it, counts. An image whose layers are in a form that isn't known has no Users.
func (s store) users(layers []layer, diffIDs []string) (*predict.Users, error) {
	files := map[string]*found{"etc/passwd": {}, "etc/group": {}}
	for i := len(layers) - 1; i >= 0 && !(files["etc/passwd"].done && files["etc/group"].done); i-- {
		err := s.look(layers[i], diffIDs[i], files)
		if errors.Is(err, errForm) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", layers[i].name, err)
		}
	}
	return predict.ParseUsers(files["etc/passwd"].text, files["etc/group"].text)
}

// look reads one layer to its end, and checks both digests.
func (s store) look(l layer, diffID string, files map[string]*found) error {
	content, err := hasher(diffID)
	if err != nil {
		return err
	}
	f, err := s.Open(l.name)
	if err != nil {
		return err
	}
	defer f.Close()
	var outer hash.Hash
	in := io.Reader(f)
	if l.digest != "" {
		if outer, err = hasher(l.digest); err != nil {
			return err
		}
		in = io.TeeReader(f, outer)
	}
	buffered := bufio.NewReaderSize(in, 64<<10)
	plain, err := unpacked(buffered)
	if err != nil {
		return err
	}
	limited := &io.LimitedReader{R: plain, N: maxTree}
	reader := io.TeeReader(limited, content)
	here, err := scan(tar.NewReader(reader), files)
	if err != nil {
		return err
	}
	for _, r := range []io.Reader{reader, buffered} { // what follows the archive, and the packed form's rest
		if _, err := io.Copy(io.Discard, r); err != nil {
			return err
		}
	}
	if limited.N == 0 {
		return fmt.Errorf("it must have at most %d bytes unpacked", int64(maxTree))
	}
	if outer != nil {
		err = match(l.digest, outer)
	}
	if err := errors.Join(err, match(diffID, content)); err != nil {
		return err
	}
	for name, seen := range here {
		if of := files[name]; !of.done {
			*of = seen
		}
	}
	return nil
}

// unpacked reads a tar archive, plain or by gzip.
func unpacked(r *bufio.Reader) (io.Reader, error) {
	head, err := r.Peek(4)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return nil, err
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return gzip.NewReader(r)
	case bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return nil, fmt.Errorf("%w: zstd", errForm)
	}
	return r, nil
}

// scan reads what one layer says of the files. Whiteouts hide what is below (OCI image
// specification, layer.md).
func scan(r *tar.Reader, files map[string]*found) (map[string]found, error) {
	here := make(map[string]found)
	hide := func(name string) {
		if _, ok := here[name]; !ok {
			here[name] = found{done: true}
		}
	}
	for {
		h, err := r.Next()
		if err == io.EOF {
			return here, nil
		}
		if err != nil {
			return nil, err
		}
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		switch {
		case name == "etc" && h.Typeflag != tar.TypeDir:
			return nil, fmt.Errorf("%w: /etc is no directory", errForm)
		case name == ".wh.etc", name == ".wh..wh..opq", name == "etc/.wh..wh..opq":
			for name := range files {
				hide(name)
			}
			continue
		}
		if hidden, ok := strings.CutPrefix(path.Base(name), ".wh."); ok {
			if at := path.Join(path.Dir(name), hidden); files[at] != nil {
				hide(at)
			}
			continue
		}
		if files[name] == nil {
			continue
		}
		switch h.Typeflag {
		case tar.TypeReg:
		case tar.TypeDir:
			hide(name)
			continue
		default: // a link may lead anywhere
			return nil, fmt.Errorf("%w: /%s is a link", errForm, name)
		}
		text, err := io.ReadAll(io.LimitReader(r, maxFound+1))
		if err != nil {
			return nil, err
		}
		if len(text) > maxFound {
			return nil, fmt.Errorf("/%s must have at most %d bytes", name, maxFound)
		}
		here[name] = found{text, true}
	}
}
