package launch

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"golang.org/x/sys/unix"
)

// Bounds of what is read. An OCI bundle of a container with a thousand mounts
// and docker's seccomp profile has about 300 KiB.
const (
	maxConfig = 4 << 20 // config.json, and the runtime's state file

	maxUserConfig = 256 << 10 // of a user's bundle, which root parses
	maxMounts     = 4096
	maxDevices    = 16384
)

// spec is the part of an OCI runtime configuration that counts here
// (OCI runtime specification 1.2, config.md and config-linux.md).
type spec struct {
	runtime string // whose bundle it is, "" where that isn't known

	Process *struct {
		Terminal bool `json:"terminal"`
		User     struct {
			UID            uint32   `json:"uid"`
			GID            uint32   `json:"gid"`
			Umask          *uint32  `json:"umask"`
			AdditionalGIDs []uint32 `json:"additionalGids"`
		} `json:"user"`
		Args         []Text `json:"args"`
		Env          []Text `json:"env"`
		Cwd          Text   `json:"cwd"`
		Capabilities struct {
			Bounding    []string `json:"bounding"`
			Effective   []string `json:"effective"`
			Permitted   []string `json:"permitted"`
			Inheritable []string `json:"inheritable"`
			Ambient     []string `json:"ambient"`
		} `json:"capabilities"`
		NoNewPrivileges bool   `json:"noNewPrivileges"`
		AppArmorProfile string `json:"apparmorProfile"`
		SELinuxLabel    string `json:"selinuxLabel"`
	} `json:"process"`
	Root struct {
		Path     string `json:"path"`
		Readonly bool   `json:"readonly"`
	} `json:"root"`
	Hostname    string                `json:"hostname"`
	Mounts      []specMount           `json:"mounts"`
	Hooks       map[string][]specHook `json:"hooks"`
	Annotations map[string]Text       `json:"annotations"`
	Linux       *struct {
		CgroupsPath   string          `json:"cgroupsPath"`
		Namespaces    []specNamespace `json:"namespaces"`
		Devices       []specDevice    `json:"devices"`
		Sysctl        map[string]Text `json:"sysctl"`
		Seccomp       json.RawMessage `json:"seccomp"`
		MaskedPaths   []Text          `json:"maskedPaths"`
		ReadonlyPaths []Text          `json:"readonlyPaths"`
		Resources     struct {
			Devices []DeviceRule `json:"devices"`
		} `json:"resources"`
	} `json:"linux"`
}

type specMount struct {
	Destination Text   `json:"destination"`
	Type        string `json:"type"`
	Source      Text   `json:"source"`
	Options     []Text `json:"options"`
}

type specNamespace struct {
	Type string `json:"type"`
	Path string `json:"path"`
}

type specHook struct {
	Path Text   `json:"path"`
	Args []Text `json:"args"`
}

type specDevice struct {
	Path     Text    `json:"path"`
	Type     string  `json:"type"`
	Major    int64   `json:"major"`
	Minor    int64   `json:"minor"`
	FileMode *uint32 `json:"fileMode"`
	UID      *uint32 `json:"uid"`
	GID      *uint32 `json:"gid"`
}

// readSpec reads a config.json of at most maxConfig bytes.
func readSpec(r io.Reader) (*spec, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxConfig+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxConfig {
		return nil, fmt.Errorf("has more than %d bytes", maxConfig)
	}
	return parseSpec(raw)
}

func parseSpec(raw []byte) (*spec, error) {
	var c spec
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, fmt.Errorf("is no OCI runtime configuration, or only half written: %w", err)
	}
	switch {
	case c.Process == nil:
		return nil, errors.New("has no process")
	case c.Linux == nil:
		return nil, errors.New("has no linux section")
	case len(c.Mounts) > maxMounts:
		return nil, fmt.Errorf("has %d mounts, more than %d", len(c.Mounts), maxMounts)
	case slices.ContainsFunc(c.Mounts, func(m specMount) bool { return len(m.Destination) >= unix.PathMax }):
		return nil, fmt.Errorf("has a mount whose destination is no path: of %d bytes or more", unix.PathMax)
	case len(c.Linux.Devices) > maxDevices || len(c.Linux.Resources.Devices) > maxDevices:
		return nil, fmt.Errorf("has more than %d devices", maxDevices)
	}
	c.runtime = managed(&c, "")
	return &c, nil
}

// annotation returns the first of these annotations that is there.
func (c *spec) annotation(names ...string) string {
	for _, name := range names {
		if v := c.Annotations[name]; v != "" {
			return string(v)
		}
	}
	return ""
}

// sandbox is the id of the pod's first container, in which the others live.
func (c *spec) sandbox() string {
	if !c.ofPod() {
		return ""
	}
	return c.annotation("io.kubernetes.cri.sandbox-id", "io.kubernetes.cri-o.SandboxID")
}

// pod reads the annotations of containerd's CRI plugin and of cri-o.
func (c *spec) pod() Pod {
	if !c.ofPod() {
		return Pod{}
	}
	return Pod{
		Name:      c.annotation("io.kubernetes.cri.sandbox-name", "io.kubernetes.cri-o.KubeName", "io.kubernetes.pod.name"),
		Namespace: c.annotation("io.kubernetes.cri.sandbox-namespace", "io.kubernetes.cri-o.Namespace", "io.kubernetes.pod.namespace"),
		UID:       c.annotation("io.kubernetes.cri.sandbox-uid", "io.kubernetes.pod.uid"),
		Container: c.annotation("io.kubernetes.cri.container-name", "io.kubernetes.container.name"),
		Image:     c.annotation("io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName"),
	}
}
