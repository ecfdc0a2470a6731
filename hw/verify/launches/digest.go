package launches

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"

	"github.com/cima-project/cima/logs/canonical"
)

// Image is the body of an image event.
type Image struct {
	Reference string   `json:"reference,omitempty"`
	Digest    string   `json:"digest,omitempty"`   // of the config
	Manifest  string   `json:"manifest,omitempty"` // of the manifest or index
	Layers    []string `json:"layers,omitempty"`
	Absent    string   `json:"absent,omitempty"` // why all else is empty
}

// ReadImage reads measured.image.
func ReadImage(body jsontext.Value) (i Image, err error) {
	m, err := object(body)
	if err == nil {
		err = known("image", m, ImageMembers)
	}
	if err == nil {
		err = json.Unmarshal(body, &i)
	}
	return i, err
}

// identity is what a launch digest holds of the image: what one can know before
// anything runs. Neither its name nor its layers are in it.
func (l *Launch) identity(i Image) (name, value string) {
	switch {
	case l.ImageConfig != "":
		return "config", l.ImageConfig
	case i.Digest != "":
		return "config", i.Digest
	case i.Manifest != "":
		return "manifest", i.Manifest
	}
	return "absent", i.Absent
}

// digest is the launch digest (cima-evidence(7), Registers). An earlier launch has none.
func (l *Launch) digest(i Image) (canonical.Digest, error) {
	name, value := l.identity(i)
	of := map[string]any{
		"cgroup_owner": l.CgroupOwner,
		"image":        map[string]string{name: value},
		"source":       l.Source,
	}
	if l.AskedDigest != (canonical.Digest{}) {
		of["asked"] = l.AskedDigest
	}
	digest, err := canonical.Sum(of)
	if err != nil {
		return digest, fmt.Errorf("launch digest: %w", err)
	}
	return digest, nil
}
