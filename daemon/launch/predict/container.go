package predict

// Container is what is asked of an engine for one container. The zero value of each
// member asks for the engine's default.
type Container struct {
	Engine Engine
	Image  string // as the line names it

	Entrypoint  *[]string // nil: the image's
	Command     []string  // nil: the image's
	Environment []Variable
	Unset       []string // variables of the image that the container hasn't
	UnsetAll    bool     // podman: all that neither line nor file gives

	WorkingDirectory string
	Terminal         bool
	User             string // name or uid, and group after a colon
	Group            string // kubelet: the group, whoever the user is
	Groups           []string
	NoImageGroups    bool // kubelet: the image's groups of the user don't count
	Umask            *uint32
	ReadOnly         bool
	ReadOnlyTmpfs    bool // podman: tmpfs on /run, /tmp and /var/tmp where ReadOnly
	Privileged       bool
	CapAdd, CapDrop  []string
	Security         Security
	Namespaces       map[string]string // type → mode, as docker names it
	Hostname         string
	Domainname       string
	Mounts           []Mount
	ImageVolumes     string // podman: "anonymous" (also if empty), "tmpfs", "ignore"
	devices          []device
	DeviceRules      []string // "c 10:200 rwm"
	Sysctls          map[string]string
	Annotations      map[string]string
	Labels           map[string]string
	Init             bool
	noSystemd        bool // podman: an init of systemd's gets nothing more
	Personality      string
	Unified          map[string]string // files of cgroup v2
	uidMap, gidMap   []idRange
	Unknown          []Unknown // what the line leaves to the engine or its host
}

// Variable is one variable that is set; the last of a name counts.
type Variable struct {
	Name, Value string
	Hidden      bool // the value isn't known here
}

// Security is what docker's --security-opt asks for.
type Security struct {
	NoNewPrivileges   bool
	SeccompUnconfined bool
	AppArmor          string   // profile
	Labels            []string // SELinux: "disable", "type:T", "level:L", …
	Unmask            []string // paths; "ALL": all, and those that are read-only
	procOptions       []string
}

// Mount is a mount that is asked for.
type Mount struct {
	Kind        string // bind, volume, tmpfs, devpts; pod: of the kubelet's for the pod
	Source      string // path of the host's, or in the pod's directory; name of a volume, empty: anonymous
	Destination string
	ReadOnly    bool
	Options     []string // propagation, flags and values, as the engine takes them
}

// device is a device of the host's that the container gets.
type device struct{ host, path, access string }

// idRange is a range of ids, in the container and on the host.
type idRange struct{ container, host, size uint32 }

// Node is a device node.
type Node struct {
	kind           string // c, b
	major, minor   int64
	mode, uid, gid uint32
}

// Doubt notes a fact that the engine or its host alone knows, why, and what is assumed
// instead. Without an assumption the launch can't be predicted.
func (c *Container) Doubt(fact, why, assumed string) {
	c.Unknown = append(c.Unknown, Unknown{fact, why, assumed})
}

// SetNamespace says whose namespace of a kind the container has: "host",
// "container:NAME", "none", or "" for its own.
func (c *Container) SetNamespace(kind, mode string) {
	if c.Namespaces == nil {
		c.Namespaces = make(map[string]string)
	}
	c.Namespaces[kind] = mode
}
