package launch

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Bounds of an image's configuration.
const (
	maxImageConfig = 4 << 20 // bytes
	maxVariables   = 65536
)

// publicLabel is the image's label that names, with commas between, the variables
// whose values the launch shows.
const publicLabel = "cima.environment.public"

// ImageConfig is the configuration of an image (OCI image specification 1.1,
// config.md; docker's form of it is the same here).
type ImageConfig struct {
	Digest           string // of its bytes, "sha256:…"
	Environment      []Text
	User             string
	WorkingDirectory Text
	Entrypoint       []Text
	Command          []Text
	Labels           map[string]Text
	Volumes          []string
}

// imageFile is what is read of the file.
type imageFile struct {
	Config struct {
		Env             []Text
		User            string
		WorkingDir      Text
		Entrypoint, Cmd []Text
		Labels          map[string]Text
		Volumes         map[string]struct{}
	} `json:"config"`
	SchemaVersion int `json:"schemaVersion"` // of a manifest
}

// ParseImageConfig reads an image's configuration, whose digest it computes.
func ParseImageConfig(raw []byte) (*ImageConfig, error) {
	if len(raw) > maxImageConfig {
		return nil, fmt.Errorf("an image's configuration must have at most %d bytes, not %d", maxImageConfig, len(raw))
	}
	var c imageFile
	err := json.Unmarshal(raw, &c)
	switch {
	case c.SchemaVersion != 0:
		return nil, errors.New("a manifest, and no configuration of an image: its member config names that by its digest")
	case err != nil:
		return nil, fmt.Errorf("no configuration of an image: %w", err)
	case len(c.Config.Env) > maxVariables:
		return nil, fmt.Errorf("an image's configuration must have at most %d variables, not %d", maxVariables, len(c.Config.Env))
	}
	i := &ImageConfig{
		Digest: "sha256:" + sha256Hex(raw), Environment: c.Config.Env, User: c.Config.User,
		WorkingDirectory: c.Config.WorkingDir, Entrypoint: c.Config.Entrypoint, Command: c.Config.Cmd, Labels: c.Config.Labels,
	}
	for v := range c.Config.Volumes {
		i.Volumes = append(i.Volumes, v)
	}
	i.Volumes = sorted(i.Volumes)
	return i, nil
}

func sha256Hex(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// public returns the variables that the image declares public.
func (i *ImageConfig) public() []string {
	if i == nil {
		return nil
	}
	return strings.FieldsFunc(string(i.Labels[publicLabel]), func(c rune) bool { return c == ',' || c == ' ' })
}
