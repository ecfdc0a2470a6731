package engines

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/records"
)

// storedMetadata is what podman and cri-o store beside a container.
type storedMetadata struct {
	ImageName string `json:"image-name"`
}

// stored reads the image's identity from the files of containers/storage.
func (c *Client) stored(ctx context.Context, r records.Record) (launch.Image, error) {
	container, err := c.storage.Find(ctx, r.Bundle, r.ID, r.UID)
	switch {
	case ctx.Err() != nil:
		return launch.Image{}, ctx.Err()
	case err != nil:
		return launch.Image{}, fmt.Errorf("%w: %w", errNotReady, err)
	case !launch.IsID(container.Image):
		return launch.Image{}, fmt.Errorf("%w: container %s has a root file system and no image", ErrNoEngine, r.ID)
	}
	var m storedMetadata
	if err := json.Unmarshal([]byte(container.Metadata), &m); err != nil {
		return launch.Image{}, fmt.Errorf("container %s: metadata: %w", r.ID, err)
	}
	raw, err := c.storage.ImageConfig(r.Bundle, container.Image, r.UID)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %w", ErrNoEngine, err)
	}
	if err != nil {
		return launch.Image{}, err
	}
	var config struct {
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(raw, &config); err != nil {
		return launch.Image{}, fmt.Errorf("image %s: configuration: %w", container.Image, err)
	}
	return launch.Image{Reference: reference(m.ImageName), Digest: "sha256:" + container.Image, Layers: config.RootFS.DiffIDs}, nil
}
