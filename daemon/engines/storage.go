package engines

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/records"
)

// Bounds of what is read: of containers.json a container takes about 700 bytes.
const (
	maxList        = 32 << 20
	maxImageConfig = 4 << 20
)

// storedContainer is an entry of containers.json (go.podman.io/storage,
// containers.go).
type storedContainer struct {
	ID       string `json:"id"`
	Image    string `json:"image"`
	Metadata string `json:"metadata"` // JSON: storedMetadata
}

type storedMetadata struct {
	ImageName string `json:"image-name"`
}

// stored reads the image's identity from the files of containers/storage
// (go.podman.io/storage).
func (c *Client) stored(ctx context.Context, r records.Record) (launch.Image, error) {
	driver := strings.TrimSuffix(path.Base(path.Dir(path.Dir(r.Bundle))), "-containers")
	roots := []string{path.Dir(path.Dir(path.Dir(r.Bundle)))}
	if r.UID == 0 {
		roots = append(roots, c.options.Storage...)
	}
	container, err := c.storedContainer(ctx, roots, driver, r)
	if err != nil {
		return launch.Image{}, err
	}
	if !launch.IsID(container.Image) {
		return launch.Image{}, fmt.Errorf("%w: container %s has a root file system and no image", ErrNoEngine, r.ID)
	}
	var m storedMetadata
	if err := json.Unmarshal([]byte(container.Metadata), &m); err != nil {
		return launch.Image{}, fmt.Errorf("container %s: metadata: %w", r.ID, err)
	}
	layers, err := c.storedLayers(roots, driver, container.Image, r.UID)
	if err != nil {
		return launch.Image{}, err
	}
	return launch.Image{Reference: reference(m.ImageName), Digest: "sha256:" + container.Image, Layers: layers}, nil
}

func (c *Client) storedContainer(ctx context.Context, roots []string, driver string, r records.Record) (storedContainer, error) {
	for _, root := range roots {
		for _, name := range []string{"containers.json", "volatile-containers.json"} {
			if err := ctx.Err(); err != nil {
				return storedContainer{}, err
			}
			file := path.Join(root, driver+"-containers", name)
			raw, _, owner, err := c.trust.ReadFile(file, maxList)
			if err != nil || owner != r.UID {
				continue
			}
			var all []storedContainer
			if err := json.Unmarshal(raw, &all); err != nil {
				return storedContainer{}, fmt.Errorf("%w: %s: %w", errNotReady, file, err)
			}
			if i := slices.IndexFunc(all, func(s storedContainer) bool { return s.ID == r.ID }); i >= 0 {
				return all[i], nil
			}
		}
	}
	return storedContainer{}, fmt.Errorf("%w: container %s must be in a list of %s", errNotReady, r.ID, strings.Join(roots, ", "))
}

// storedLayers reads the diff ids of the image's layers from its configuration.
// The digest of the configuration is the image's id, and the file's name is that
// digest in base64.
func (c *Client) storedLayers(roots []string, driver, id string, uid uint32) ([]string, error) {
	file := "=" + base64.StdEncoding.EncodeToString([]byte("sha256:"+id))
	err := error(ErrNoEngine)
	for _, root := range roots {
		var raw []byte
		var owner uint32
		if raw, _, owner, err = c.trust.ReadFile(path.Join(root, driver+"-images", id, file), maxImageConfig); err != nil {
			continue
		}
		if sum := sha256.Sum256(raw); hex.EncodeToString(sum[:]) != id || owner != uid {
			return nil, fmt.Errorf("image %s: its configuration in %s must have that digest and the owner of the container's record", id, root)
		}
		var config struct {
			RootFS struct {
				DiffIDs []string `json:"diff_ids"`
			} `json:"rootfs"`
		}
		if err := json.Unmarshal(raw, &config); err != nil {
			return nil, fmt.Errorf("image %s: configuration: %w", id, err)
		}
		return config.RootFS.DiffIDs, nil
	}
	if errors.Is(err, ErrNoEngine) {
		return nil, err
	}
	return nil, fmt.Errorf("%w: image %s: %w", ErrNoEngine, id, err)
}
