package launch

import (
	"encoding/json"
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// Bounds of what is read. An OCI bundle of a container with a thousand mounts
// and docker's seccomp profile has about 300 KiB.
const (
	MaxConfig  = 4 << 20 // bytes of a config.json
	maxMounts  = 4096
	maxDevices = 16384
	maxPath    = 4096 // PATH_MAX
)

// Spec is the part of an OCI runtime configuration that a launch is made of
// (OCI runtime specification 1.3, config.md and config-linux.md).
type Spec struct {
	Version Text   `json:"ociVersion"`
	runtime string // see Runtime
	found   *found // what stands in the launch as it is, and what the specification does not know

	Process *struct {
		Terminal bool `json:"terminal"`
		User     struct {
			UID            uint32   `json:"uid"`
			GID            uint32   `json:"gid"`
			Umask          *uint32  `json:"umask"`
			AdditionalGIDs []uint32 `json:"additionalGids"`
		} `json:"user"`
		Args            []Text       `json:"args"`
		Env             []Text       `json:"env"`
		Cwd             Text         `json:"cwd"`
		Capabilities    Capabilities `json:"capabilities"`
		NoNewPrivileges bool         `json:"noNewPrivileges"`
		AppArmorProfile string       `json:"apparmorProfile"`
		SELinuxLabel    string       `json:"selinuxLabel"`
	} `json:"process"`
	Root struct {
		Path     string `json:"path"`
		Readonly bool   `json:"readonly"`
	} `json:"root"`
	Hostname    Text                  `json:"hostname"`
	Domainname  Text                  `json:"domainname"`
	Mounts      []SpecMount           `json:"mounts"`
	Hooks       map[string][]specHook `json:"hooks"`
	Annotations map[string]Text       `json:"annotations"`
	Linux       *struct {
		CgroupsPath   string          `json:"cgroupsPath"`
		Namespaces    []specNamespace `json:"namespaces"`
		Devices       []specDevice    `json:"devices"`
		Sysctl        map[string]Text `json:"sysctl"`
		Seccomp       jsontext.Value  `json:"seccomp"`
		MountLabel    string          `json:"mountLabel"`
		MaskedPaths   []Text          `json:"maskedPaths"`
		ReadonlyPaths []Text          `json:"readonlyPaths"`
		Resources     struct {
			Devices []DeviceRule `json:"devices"`
		} `json:"resources"`
	} `json:"linux"`
}

type SpecMount struct {
	Destination Text           `json:"destination"`
	Type        string         `json:"type"`
	Source      Text           `json:"source"`
	Options     []Text         `json:"options"`
	UIDMappings jsontext.Value `json:"uidMappings"`
	GIDMappings jsontext.Value `json:"gidMappings"`
}

type specNamespace struct {
	Type string `json:"type"`
	Path string `json:"path"`
}

type specHook struct {
	Path    Text     `json:"path"`
	Args    []Text   `json:"args"`
	Env     []Text   `json:"env"`
	Timeout *Integer `json:"timeout"`
}

type specDevice struct {
	Path     Text    `json:"path"`
	Type     string  `json:"type"`
	Major    Integer `json:"major"`
	Minor    Integer `json:"minor"`
	FileMode *uint32 `json:"fileMode"`
	UID      *uint32 `json:"uid"`
	GID      *uint32 `json:"gid"`
}

// Read reads a config.json of at most MaxConfig bytes whose runtime isn't known.
func Read(r io.Reader) (*Spec, error) {
	raw, err := io.ReadAll(io.LimitReader(r, MaxConfig+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > MaxConfig {
		return nil, fmt.Errorf("more than %d bytes", MaxConfig)
	}
	return Parse(raw, "")
}

// Parse reads a config.json that lies where bundles of this runtime lie: "docker",
// "podman", "containerd", or "" where the runtime isn't known.
func Parse(raw []byte, runtime string) (*Spec, error) {
	var c Spec
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, fmt.Errorf("no OCI runtime configuration, or only half written: %w", err)
	}
	switch {
	case c.Process == nil:
		return nil, errors.New("an OCI runtime configuration must have a process section")
	case c.Linux == nil:
		return nil, errors.New("an OCI runtime configuration must have a linux section")
	case len(c.Mounts) > maxMounts:
		return nil, fmt.Errorf("%d mounts: at most %d are allowed", len(c.Mounts), maxMounts)
	case slices.ContainsFunc(c.Mounts, func(m SpecMount) bool { return len(m.Destination) >= maxPath }):
		return nil, fmt.Errorf("a mount's destination must have fewer than %d bytes", maxPath)
	case len(c.Linux.Devices) > maxDevices || len(c.Linux.Resources.Devices) > maxDevices:
		return nil, fmt.Errorf("more than %d devices", maxDevices)
	}
	var err error
	if c.found, err = find(raw); err != nil {
		return nil, fmt.Errorf("an OCI runtime configuration: %w", err)
	}
	c.runtime = managed(&c, runtime)
	return &c, nil
}

// Runtime is the engine or runtime that made the bundle: "docker", "podman",
// "containerd", "cri-o", or "" where that isn't known.
func (c *Spec) Runtime() string { return c.runtime }

// ID is the container's id as its cgroup path shows it: 64 hex digits, or nothing.
func (c *Spec) ID() string {
	return HexID(path.Base(strings.ReplaceAll(c.Linux.CgroupsPath, ":", "/")))
}

// Annotation returns the value of the first of these annotations that is not empty.
func (c *Spec) Annotation(names ...string) string {
	for _, name := range names {
		if v := c.Annotations[name]; v != "" {
			return string(v)
		}
	}
	return ""
}

// Sandbox returns the id of the pod's first container, whose namespaces the others join.
func (c *Spec) Sandbox() string {
	if !c.ofPod() {
		return ""
	}
	return c.Annotation("io.kubernetes.cri.sandbox-id", "io.kubernetes.cri-o.SandboxID")
}

// Pod reads the annotations of containerd's CRI plugin and of cri-o.
func (c *Spec) Pod() Pod {
	if !c.ofPod() {
		return Pod{}
	}
	return Pod{
		Name:      c.Annotation("io.kubernetes.cri.sandbox-name", "io.kubernetes.cri-o.KubeName", "io.kubernetes.pod.name"),
		Namespace: c.Annotation("io.kubernetes.cri.sandbox-namespace", "io.kubernetes.cri-o.Namespace", "io.kubernetes.pod.namespace"),
		UID:       c.Annotation("io.kubernetes.cri.sandbox-uid", "io.kubernetes.pod.uid"),
		Container: c.Annotation("io.kubernetes.cri.container-name", "io.kubernetes.container.name"),
		Image:     c.Annotation("io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName"),
	}
}

// Pod is what CRI annotations say about a container.
type Pod struct {
	Name      string `json:"name,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	UID       string `json:"uid,omitempty"`
	Container string `json:"container,omitempty"` // its name in the pod; none: the pod's first container
	Image     string `json:"-"`                   // as the pod names it
}
