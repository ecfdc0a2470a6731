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
	Groups           []string
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
	Devices          []Device
	DeviceRules      []string // "c 10:200 rwm"
	Sysctls          map[string]string
	Annotations      map[string]string
	Labels           map[string]string
	Init             bool
	Personality      string
	Unified          map[string]string // files of cgroup v2
	UIDMap, GIDMap   []Mapping
	Unknown          []Unknown // what the line leaves to the engine or its host
}

// Variable is one variable that is set; the last of a name counts.
type Variable struct{ Name, Value string }

// Security is what docker's --security-opt asks for.
type Security struct {
	NoNewPrivileges   bool
	SeccompUnconfined bool
	AppArmor          string   // profile
	Labels            []string // SELinux: "disable", "type:T", "level:L", …
	Unmask            []string // paths; "ALL": all, and those that are read-only
	Mask              []string
	ProcOptions       []string
}

// Mount is a mount that is asked for.
type Mount struct {
	Kind        string // bind, volume, tmpfs, devpts
	Source      string // path of the host's; name of a volume, empty: anonymous
	Destination string
	ReadOnly    bool
	ByImage     bool     // it stands in the image's configuration alone
	Options     []string // propagation, flags and values, as the engine takes them
}

// Device is a device of the host's that the container gets.
type Device struct{ Host, Path, Access string }

// Mapping is a range of ids.
type Mapping struct{ Container, Host, Size uint32 }

// Node is a device node.
type Node struct {
	Type           string // c, b
	Major, Minor   int64
	Mode, UID, GID uint32
}

// unknown notes a fact that the host alone knows.
func (c *Container) unknown(fact, why, assumed string) {
	c.Unknown = append(c.Unknown, Unknown{fact, why, assumed})
}

func (c *Container) namespace(kind, mode string) {
	if c.Namespaces == nil {
		c.Namespaces = make(map[string]string)
	}
	c.Namespaces[kind] = mode
}
