// Package launch answers: what was asked for?
//
// It reads a container's OCI bundle (OCI runtime specification 1.2, config.md) and
// makes a Launch of it: what was asked of the runtime, in a form that is the same for
// the same command line. The schema of a Launch, and of its digest, is normative:
// cima-evidence(7), LAUNCH.
//
// The package is pure. It opens no file and no socket, so that a launch can be
// predicted on any system.
package launch

import (
	"crypto/sha512"
	"encoding/hex"
	"fmt"

	"github.com/cima-project/cima/logs/canonical"
)

// Launch is what was asked of the runtime, normalised: no id, name, time,
// host name, nor path that holds an id. It is the content of the launch event
// and its schema is normative (cima-evidence(7), LAUNCH). Arrays that have no
// order are sorted; what is empty is left out.
type Launch struct {
	Source      string `json:"source"`       // logs.SourceBundle, …
	CgroupOwner uint32 `json:"cgroup_owner"` // uid that owns the cgroup chain; the daemon fills it in

	Arguments        []Text            `json:"arguments,omitempty"`   // as given, in order
	Environment      []Variable        `json:"environment,omitempty"` // by name, without HOSTNAME
	WorkingDirectory Text              `json:"working_directory,omitempty"`
	Terminal         bool              `json:"terminal,omitzero"`
	User             User              `json:"user"`
	Capabilities     Capabilities      `json:"capabilities"`
	NoNewPrivileges  bool              `json:"no_new_privileges,omitzero"`
	Seccomp          string            `json:"seccomp,omitempty"`    // SHA-384 of its JCS form, or "unconfined"
	AppArmor         string            `json:"apparmor,omitempty"`   // profile
	SELinux          string            `json:"selinux,omitempty"`    // type of the label
	Namespaces       map[string]string `json:"namespaces,omitempty"` // type → own, host, joined
	Mounts           []Mount           `json:"mounts,omitempty"`     // by destination
	AllDevices       bool              `json:"all_devices,omitzero"`
	Devices          []Device          `json:"devices,omitempty"`      // by path; none where AllDevices
	DeviceRules      []DeviceRule      `json:"device_rules,omitempty"` // beyond the engines' defaults, in order
	Sysctls          map[string]Text   `json:"sysctls,omitempty"`
	RootReadOnly     bool              `json:"root_read_only,omitzero"`
	MaskedPaths      []Text            `json:"masked_paths,omitempty"`
	ReadOnlyPaths    []Text            `json:"read_only_paths,omitempty"`
	Hooks            []Hook            `json:"hooks,omitempty"`       // other than the engine's own, in order
	Labels           map[string]Text   `json:"labels,omitempty"`      // those that policy names
	Annotations      map[string]Text   `json:"annotations,omitempty"` // those that a runtime acts on
	Entrypoint       *Entrypoint       `json:"entrypoint,omitzero"`

	// Whole is SHA-384 of the canonical form of a launch that is too large
	// for an event; it then stands for all the rest (Condense).
	Whole string `json:"whole,omitempty"`
}

// User is the user that the first process runs as.
type User struct {
	UID            uint32   `json:"uid"`
	GID            uint32   `json:"gid"`
	AdditionalGIDs []uint32 `json:"additional_gids,omitempty"`
	Umask          *uint32  `json:"umask,omitzero"`
}

// Capabilities are names such as CAP_CHOWN, sorted.
type Capabilities struct {
	Bounding    []string `json:"bounding,omitempty"`
	Effective   []string `json:"effective,omitempty"`
	Permitted   []string `json:"permitted,omitempty"`
	Inheritable []string `json:"inheritable,omitempty"`
	Ambient     []string `json:"ambient,omitempty"`
}

// Variable is one variable of the environment.
type Variable struct {
	Name   Text   `json:"name"`
	SHA384 string `json:"sha384,omitempty"` // of the value, in mode EnvironmentDigest
}

// Mount is one mount. A bind has a Source, or is one of Volume, Anonymous and Engine
// (a pod's volume is Engine and has the name Volume too). Other types have none of
// these.
type Mount struct {
	Destination Text   `json:"destination"`
	Type        string `json:"type,omitempty"`
	Options     []Text `json:"options,omitempty"`
	Source      Text   `json:"source,omitempty"`   // of a bind, as given
	Volume      Text   `json:"volume,omitempty"`   // name of an engine's volume
	Anonymous   bool   `json:"anonymous,omitzero"` // an engine's volume without a name
	Engine      bool   `json:"engine,omitzero"`    // a file that the engine made for this container
	Hidden      bool   `json:"hidden,omitzero"`    // a later mount covers it
}

// Device is a device node made in the container.
type Device struct {
	Path  Text    `json:"path"`
	Type  string  `json:"type"` // c, b, u, p
	Major int64   `json:"major"`
	Minor int64   `json:"minor"`
	Mode  *uint32 `json:"mode,omitzero"`
	UID   *uint32 `json:"uid,omitzero"`
	GID   *uint32 `json:"gid,omitzero"`
}

// DeviceRule is a rule of the device cgroup; a number left out means any.
type DeviceRule struct {
	Allow  bool   `json:"allow"`
	Type   string `json:"type,omitempty"` // a, c, b
	Major  *int64 `json:"major,omitzero"`
	Minor  *int64 `json:"minor,omitzero"`
	Access string `json:"access,omitempty"`
}

// Hook is a program that the runtime runs outside the container, as root.
type Hook struct {
	Stage     string `json:"stage"` // prestart, createRuntime, createContainer, startContainer, poststart, poststop
	Path      Text   `json:"path"`
	Arguments []Text `json:"arguments,omitempty"` // the container's id shown as {id}
	SHA384    string `json:"sha384,omitempty"`    // of the file, where it could be read
}

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

// Digest is the launch digest: SHA-384(JCS({"image": …, "launch": …})).
func Digest(l Launch, i Image) ([48]byte, error) {
	digest, err := canonical.Sum(map[string]any{"launch": l, "image": i})
	if err != nil {
		return digest, fmt.Errorf("launch digest: %w", err)
	}
	return digest, nil
}

// Condense returns l, or, if its canonical form has more than limit bytes, a
// launch that holds only the digest of that form.
func Condense(l Launch, limit int) (Launch, error) {
	form, err := canonical.Marshal(l)
	if err != nil || len(form) <= limit {
		return l, err
	}
	return Launch{Source: l.Source, CgroupOwner: l.CgroupOwner, Whole: sha384Hex(form)}, nil
}

func sha384Hex(b []byte) string {
	sum := sha512.Sum384(b)
	return hex.EncodeToString(sum[:])
}
