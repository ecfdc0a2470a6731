package engines

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/records"
)

const (
	engineTimeout = 5 * time.Second
	maxAnswer     = 8 << 20
)

// engineContainer and engineImage are the parts of interest in the answers to
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

	// Descriptor is present (API 1.48) where images lie in containerd's store
	// and Id is the digest of a manifest or an index.
	Descriptor *struct {
		Digest string `json:"digest"`
	} `json:"Descriptor"`
}

// ask asks the record's engine for its container's image.
func (c *Client) ask(ctx context.Context, r records.Record) (launch.Image, error) {
	socket, err := c.socket(r.Runtime)
	if err != nil {
		return launch.Image{}, err
	}
	if !launch.IsID(r.ID) {
		return launch.Image{}, fmt.Errorf("%w: %q must be an id of %s, 64 hex digits", ErrNoEngine, r.ID, r.Runtime)
	}
	ctx, cancel := context.WithTimeout(ctx, engineTimeout)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
	var container engineContainer
	if err := get(ctx, client, "/containers/"+r.ID+"/json", &container); err != nil {
		return launch.Image{}, err
	}
	if container.ID != r.ID {
		return launch.Image{}, fmt.Errorf("%s answered for container %q instead of %s", r.Runtime, container.ID, r.ID)
	}
	id := strings.TrimPrefix(container.Image, "sha256:")
	if !launch.IsID(id) {
		return launch.Image{}, fmt.Errorf("%s names no image by id: %q", r.Runtime, container.Image)
	}
	var i engineImage
	if err := get(ctx, client, "/images/sha256:"+id+"/json", &i); err != nil {
		return launch.Image{}, err
	}
	return identity(container, i, id)
}

func identity(c engineContainer, i engineImage, id string) (launch.Image, error) {
	if strings.TrimPrefix(i.ID, "sha256:") != id {
		return launch.Image{}, fmt.Errorf("engine answered for image %q instead of %s", i.ID, id)
	}
	for _, layer := range i.RootFS.Layers {
		if !launch.IsID(strings.TrimPrefix(layer, "sha256:")) {
			return launch.Image{}, fmt.Errorf("engine gives %q for a layer", layer)
		}
	}
	out := launch.Image{Reference: reference(c.Config.Image), Layers: i.RootFS.Layers}
	if i.Descriptor != nil && strings.TrimPrefix(i.Descriptor.Digest, "sha256:") == id {
		out.Manifest = "sha256:" + id
	} else {
		out.Digest = "sha256:" + id
	}
	// docker run b86c77…: an id is no reference, unless it is an image's name too.
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
		return fmt.Errorf("%w: %w", errNotReady, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: GET %s: %s", errNotReady, url, answer.Status)
	}
	raw, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("%w: GET %s: %w", errNotReady, url, err)
	case len(raw) > maxAnswer:
		return fmt.Errorf("GET %s: answer has more than %d bytes", url, maxAnswer)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("GET %s: %w", url, err)
	}
	return nil
}

// socket returns the path of the engine's socket, which root must have made.
func (c *Client) socket(runtime string) (string, error) {
	err := fmt.Errorf("%w: %s has no known socket", ErrNoEngine, runtime)
	for _, e := range c.options.Engines {
		if e.Runtime != runtime {
			continue
		}
		if err = c.storage.Trust.Socket(e.Socket); err == nil {
			return e.Socket, nil
		}
		err = fmt.Errorf("%w: %w", ErrNoEngine, err)
	}
	return "", err
}
