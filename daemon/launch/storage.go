package launch

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
)

// maxList bounds containers.json, of which a container takes about 700 bytes.
const maxList = 32 << 20

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

// stored reads the image's identity from the files of containers/storage.
func (s *Store) stored(ctx context.Context, r Record) (Image, error) {
	driver := strings.TrimSuffix(path.Base(path.Dir(path.Dir(r.Bundle))), "-containers")
	roots := []string{path.Dir(path.Dir(path.Dir(r.Bundle)))}
	if r.UID == 0 {
		roots = append(roots, s.options.Storage...)
	}
	c, err := s.storedContainer(ctx, roots, driver, r)
	if err != nil {
		return Image{}, err
	}
	if !isID(c.Image) {
		return Image{}, fmt.Errorf("%w: container %s has a root file system and no image", ErrNoEngine, r.ID)
	}
	var m storedMetadata
	if err := json.Unmarshal([]byte(c.Metadata), &m); err != nil {
		return Image{}, fmt.Errorf("container %s: metadata: %w", r.ID, err)
	}
	layers, err := s.storedLayers(roots, driver, c.Image, r.UID)
	if err != nil {
		return Image{}, err
	}
	return Image{Reference: reference(m.ImageName), Digest: "sha256:" + c.Image, Layers: layers}, nil
}

func (s *Store) storedContainer(ctx context.Context, roots []string, driver string, r Record) (storedContainer, error) {
	for _, root := range roots {
		for _, name := range []string{"containers.json", "volatile-containers.json"} {
			if err := ctx.Err(); err != nil {
				return storedContainer{}, err
			}
			file := path.Join(root, driver+"-containers", name)
			raw, _, owner, err := s.readFile(file, maxList)
			if err != nil || owner != r.UID {
				continue
			}
			var all []storedContainer
			if err := json.Unmarshal(raw, &all); err != nil {
				return storedContainer{}, fmt.Errorf("%w: %s: %w", ErrNotReady, file, err)
			}
			if i := slices.IndexFunc(all, func(c storedContainer) bool { return c.ID == r.ID }); i >= 0 {
				return all[i], nil
			}
		}
	}
	return storedContainer{}, fmt.Errorf("%w: container %s is in no list of %s", ErrNotReady, r.ID, strings.Join(roots, ", "))
}

// storedLayers reads the image's configuration, whose digest is the image's
// id, from the file that has its name in base64.
func (s *Store) storedLayers(roots []string, driver, id string, uid uint32) ([]string, error) {
	file := "=" + base64.StdEncoding.EncodeToString([]byte("sha256:"+id))
	err := error(ErrNoEngine)
	for _, root := range roots {
		var raw []byte
		var owner uint32
		if raw, _, owner, err = s.readFile(path.Join(root, driver+"-images", id, file), maxConfig); err != nil {
			continue
		}
		if sum := sha256.Sum256(raw); hex.EncodeToString(sum[:]) != id || owner != uid {
			return nil, fmt.Errorf("image %s: its configuration in %s is not the one of that digest", id, root)
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
