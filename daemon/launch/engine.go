package launch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	engineTimeout = 5 * time.Second
	maxAnswer     = 8 << 20
)

// engineContainer and engineImage are the parts that count of the answers to
// GET /containers/ID/json and /images/ID/json (Docker Engine API 1.24 and
// later; podman's compatible API).
type engineContainer struct {
	ID     string `json:"Id"`
	Image  string `json:"Image"`
	Config struct {
		Image string `json:"Image"`
	} `json:"Config"`
}

type engineImage struct {
	ID       string   `json:"Id"`
	RepoTags []string `json:"RepoTags"`
	RootFS   struct {
		Layers []string `json:"Layers"`
	} `json:"RootFS"`

	// Descriptor is there (API 1.48) where images lie in containerd's store
	// and Id is the digest of a manifest or an index.
	Descriptor *struct {
		Digest string `json:"digest"`
	} `json:"Descriptor"`
}

// ask asks the record's engine for its container's image.
func (s *Store) ask(ctx context.Context, r Record) (Image, error) {
	socket, err := s.socket(r.Runtime)
	if err != nil {
		return Image{}, err
	}
	if !isID(r.ID) {
		return Image{}, fmt.Errorf("%w: %q is no id of %s", ErrNoEngine, r.ID, r.Runtime)
	}
	ctx, cancel := context.WithTimeout(ctx, engineTimeout)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
	var c engineContainer
	if err := get(ctx, client, "/containers/"+r.ID+"/json", &c); err != nil {
		return Image{}, err
	}
	if c.ID != r.ID {
		return Image{}, fmt.Errorf("%s answered for container %q instead of %s", r.Runtime, c.ID, r.ID)
	}
	id := strings.TrimPrefix(c.Image, "sha256:")
	if !isID(id) {
		return Image{}, fmt.Errorf("%s names no image by id: %q", r.Runtime, c.Image)
	}
	var i engineImage
	if err := get(ctx, client, "/images/sha256:"+id+"/json", &i); err != nil {
		return Image{}, err
	}
	return identity(c, i, id)
}

func identity(c engineContainer, i engineImage, id string) (Image, error) {
	if strings.TrimPrefix(i.ID, "sha256:") != id {
		return Image{}, fmt.Errorf("engine answered for image %q instead of %s", i.ID, id)
	}
	for _, layer := range i.RootFS.Layers {
		if !isID(strings.TrimPrefix(layer, "sha256:")) {
			return Image{}, fmt.Errorf("engine gives %q for a layer", layer)
		}
	}
	out := Image{Reference: reference(c.Config.Image), Layers: i.RootFS.Layers}
	if i.Descriptor != nil && strings.TrimPrefix(i.Descriptor.Digest, "sha256:") == id {
		out.Manifest = "sha256:" + id
	} else {
		out.Digest = "sha256:" + id
	}
	// docker run b86c77…: an id is no reference, unless an image is called so.
	if short := strings.TrimPrefix(c.Config.Image, "sha256:"); strings.HasPrefix(id, short) {
		out.Reference = ""
		for _, tag := range i.RepoTags {
			if reference(tag) == reference(c.Config.Image) {
				out.Reference = reference(tag)
			}
		}
	}
	return out, nil
}

// get reads one JSON answer of bounded size.
func get(ctx context.Context, client *http.Client, url string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://engine"+url, nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(request)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ECONNREFUSED):
		return fmt.Errorf("%w: %w", ErrNoEngine, err)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: GET %s: %s", ErrNotReady, url, answer.Status)
	}
	raw, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("%w: GET %s: %w", ErrNotReady, url, err)
	case len(raw) > maxAnswer:
		return fmt.Errorf("GET %s: answer has more than %d bytes", url, maxAnswer)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("GET %s: %w", url, err)
	}
	return nil
}

// socket finds the engine's socket. Root made it, in a directory where nobody
// else can put another.
func (s *Store) socket(runtime string) (string, error) {
	err := fmt.Errorf("%w: no socket of %s is known", ErrNoEngine, runtime)
	for _, e := range s.options.Engines {
		if e.Runtime != runtime {
			continue
		}
		if err = s.rootsSocket(e.Socket); err == nil {
			return e.Socket, nil
		}
	}
	return "", err
}

func (s *Store) rootsSocket(file string) error {
	dir, err := s.trust.open(path.Dir(file))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoEngine, err)
	}
	defer dir.close()
	var st unix.Stat_t
	if err := unix.Fstatat(dir.fd, path.Base(file), &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrNoEngine, file, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK || dir.owner != 0 || st.Uid != 0 && st.Uid != s.trust.root {
		return fmt.Errorf("%w: %s: %w: no socket of root's", ErrNoEngine, file, errUntrusted)
	}
	return nil
}
