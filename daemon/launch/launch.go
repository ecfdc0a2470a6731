// Package launch answers: what was asked for?
//
// It reads a container's OCI bundle (OCI runtime specification 1.3, config.md) and
// makes a Launch of it, in two parts: what was asked for, which is the same for the
// same command line with any engine, and what the engine added by itself. No member of
// the specification is passed over in silence: a table says of each what
// becomes of it, and what the table does not know stands in the launch as it is. The
// schema of a Launch, and of its digests, is normative: cima-evidence(7), LAUNCH.
//
// The package is pure. It opens no file and no socket, so that a launch can be
// predicted on any system.
package launch

import (
	"crypto/sha512"
	"encoding/hex"
	"encoding/json/jsontext"
	"fmt"

	"github.com/cima-project/cima/logs/canonical"
)

// Launch is the content of the launch event.
type Launch struct {
	Source      string    `json:"source"`       // logs.SourceBundle, …
	CgroupOwner uint32    `json:"cgroup_owner"` // uid that owns the cgroup chain; the daemon fills it in
	Asked       *Asked    `json:"asked,omitzero"`
	Defaults    *Defaults `json:"defaults,omitzero"`

	// Limits are quantities, which hosts and schedulers choose: they decide how much
	// runs, not what. They are in no digest.
	Limits Members `json:"limits,omitempty"`

	// ImageConfig is the digest, "sha256:…", of the image's configuration by which
	// Asked.Environment was computed. It is empty where that was unknown: then every
	// variable counts as asked for.
	ImageConfig string      `json:"image_config,omitempty"`
	Entrypoint  *Entrypoint `json:"entrypoint,omitzero"`

	// Pod is the pod that the container is of, by the word of containerd's CRI plugin. It
	// is in no digest.
	Pod Pod `json:"pod,omitzero"`

	// AskedSHA384 and DefaultsSHA384 stand for Asked and Defaults where these are too
	// large for an event (Condense).
	AskedSHA384    string `json:"asked_sha384,omitempty"`
	DefaultsSHA384 string `json:"defaults_sha384,omitempty"`
}

// Members are members of the specification: path → value, as it stands there.
type Members map[string]jsontext.Value

// Entrypoint is the file that the runtime executes first.
type Entrypoint struct {
	Path Text `json:"path"` // in the container, as found along PATH

	// SHA384 is the digest of the file in the root file system. It is empty where a
	// mount covers the file or may cover it (a mount within a bind goes where a
	// symlink there leads); where the file is no regular file, is above 256 MiB, or
	// lies on FUSE or a network; and where the daemon can't see the root file system.
	SHA384 string `json:"sha384,omitempty"`
}

// Image is the identity of the image. It is the content of the image event.
type Image struct {
	Reference string   `json:"reference,omitempty"` // registry/name:tag or registry/name@digest
	Digest    string   `json:"digest,omitempty"`    // of its config, "sha256:…"
	Manifest  string   `json:"manifest,omitempty"`  // of its manifest or index, where the engine identifies the image by that
	Layers    []string `json:"layers,omitempty"`    // diff ids, from the lowest
	Absent    string   `json:"absent,omitempty"`    // why the other members are empty; the daemon fills it in
}

// identity is what the launch digest says of the image: one digest, and neither name
// nor layers, which follow from it.
func (i Image) identity(config string) map[string]string {
	switch {
	case config != "":
		return map[string]string{"config": config}
	case i.Digest != "":
		return map[string]string{"config": i.Digest}
	case i.Manifest != "":
		return map[string]string{"manifest": i.Manifest}
	}
	return map[string]string{"absent": i.Absent}
}

// Digest is the launch digest: SHA-384(JCS({"asked": …, "cgroup_owner": …, "image": …,
// "source": …})). "asked" is the hex digest of what was asked for, and is left out
// where nothing is known of it (Source is logs.SourceNone).
func Digest(l Launch, i Image) ([48]byte, error) {
	of := map[string]any{"cgroup_owner": l.CgroupOwner, "image": i.identity(l.ImageConfig), "source": l.Source}
	asked, err := digestOr(l.AskedSHA384, l.Asked)
	if err != nil {
		return [48]byte{}, fmt.Errorf("launch digest: %w", err)
	}
	if asked != "" {
		of["asked"] = asked
	}
	digest, err := canonical.Sum(of)
	if err != nil {
		return [48]byte{}, fmt.Errorf("launch digest: %w", err)
	}
	return digest, nil
}

// DefaultsDigest is SHA-384(JCS(defaults)), and zero where nothing is known of what the
// engine added.
func DefaultsDigest(l Launch) (digest [48]byte, err error) {
	text, err := digestOr(l.DefaultsSHA384, l.Defaults)
	if err == nil {
		_, err = hex.Decode(digest[:], []byte(text))
	}
	if err != nil {
		return [48]byte{}, fmt.Errorf("defaults digest: %w", err)
	}
	return digest, nil
}

// digestOr returns a digest, or if there is none that of a part, and "" where the part
// is absent too.
func digestOr[T any](digest string, part *T) (string, error) {
	if digest != "" || part == nil {
		return digest, nil
	}
	sum, err := canonical.Sum(part)
	return hex.EncodeToString(sum[:]), err
}

// Condense returns l, or, if its canonical form has more than limit bytes, a launch
// with the digests of what was asked for and of the defaults in their places, and
// without limits. Both digests of a launch stay what they were.
func Condense(l Launch, limit int) (Launch, error) {
	form, err := canonical.Marshal(l)
	if err != nil || len(form) <= limit {
		return l, err
	}
	if l.AskedSHA384, err = digestOr(l.AskedSHA384, l.Asked); err != nil {
		return Launch{}, err
	}
	if l.DefaultsSHA384, err = digestOr(l.DefaultsSHA384, l.Defaults); err != nil {
		return Launch{}, err
	}
	l.Asked, l.Defaults, l.Limits = nil, nil, nil
	return l, nil
}

func sha384Hex(b []byte) string {
	sum := sha512.Sum384(b)
	return hex.EncodeToString(sum[:])
}
