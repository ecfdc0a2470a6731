package launch

import "encoding/json/jsontext"

// Asked is what was asked for: no id, name, time, nor path that holds an id, and
// nothing that an engine adds by itself. Arrays that have no order are sorted; what is
// empty is left out.
type Asked struct {
	Arguments        []Text            `json:"arguments,omitempty"` // as given, in order
	WorkingDirectory Text              `json:"working_directory,omitempty"`
	Terminal         bool              `json:"terminal,omitzero"`
	User             User              `json:"user"`
	Environment      []Variable        `json:"environment,omitempty"` // by name
	Capabilities     AskedCapabilities `json:"capabilities,omitzero"`
	NoNewPrivileges  bool              `json:"no_new_privileges,omitzero"`
	Seccomp          string            `json:"seccomp,omitempty"`    // "unconfined"; a profile is in Defaults
	AppArmor         string            `json:"apparmor,omitempty"`   // profile, unless an engine's default
	SELinux          string            `json:"selinux,omitempty"`    // type of the label, unless an engine's default
	Namespaces       map[string]string `json:"namespaces,omitempty"` // type → host, joined; or own, for user and time
	Mounts           []Mount           `json:"mounts,omitempty"`     // by destination; without an engine's defaults
	AllDevices       bool              `json:"all_devices,omitzero"`
	Devices          []Device          `json:"devices,omitempty"`      // by path; none where AllDevices
	DeviceRules      []DeviceRule      `json:"device_rules,omitempty"` // beyond the engines' defaults, in order
	Sysctls          map[string]Text   `json:"sysctls,omitempty"`      // without an engine's defaults
	RootReadOnly     bool              `json:"root_read_only,omitzero"`
	Unmasked         []Text            `json:"unmasked,omitempty"`       // of what all engines mask
	WritablePaths    []Text            `json:"writable_paths,omitempty"` // of what all engines make read-only
	Hooks            []Hook            `json:"hooks,omitempty"`          // other than docker's own, in order
	Annotations      map[string]Text   `json:"annotations,omitempty"`    // without those that engines write by themselves
	Labels           map[string]Text   `json:"labels,omitempty"`         // those that the configuration names
	Hostname         Text              `json:"hostname,omitempty"`       // unless made of the id
	Domainname       Text              `json:"domainname,omitempty"`

	Members Members `json:"members,omitempty"` // other members of the specification, as they stand there
	Unknown Members `json:"unknown,omitempty"` // what the specification does not know
}

// Defaults are what the engine added by itself. They may change with its version.
type Defaults struct {
	Capabilities  Capabilities      `json:"capabilities"`
	Seccomp       string            `json:"seccomp,omitempty"` // SHA-384 of the profile's JCS form
	Umask         *uint32           `json:"umask,omitzero"`
	AppArmor      string            `json:"apparmor,omitempty"`
	SELinux       string            `json:"selinux,omitempty"`
	Environment   []Text            `json:"environment,omitempty"`     // names of the engine's own variables
	Mounts        []Mount           `json:"mounts,omitempty"`          // all, by destination, with all options; those that were asked for without their sources
	Sysctls       map[string]Text   `json:"sysctls,omitempty"`         // exactly an engine's default
	DeviceRules   []DeviceRule      `json:"device_rules,omitempty"`    // in order
	MaskedPaths   []Text            `json:"masked_paths,omitempty"`    // all
	ReadOnlyPaths []Text            `json:"read_only_paths,omitempty"` // all
	Annotations   map[string]Text   `json:"annotations,omitempty"`     // the engine's, which no runtime acts on
	Namespaces    map[string]string `json:"namespaces,omitempty"`      // cgroup → own or host
	Hostname      Text              `json:"hostname,omitempty"`        // in the host's network or uts namespace: the host's name, if none was given
}

// User is the user that the first process runs as.
type User struct {
	UID            uint32   `json:"uid"`
	GID            uint32   `json:"gid"`
	AdditionalGIDs []uint32 `json:"additional_gids,omitempty"` // without GID
	Umask          *uint32  `json:"umask,omitzero"`            // unless an engine's default
}

// AskedCapabilities are names such as CAP_CHOWN, sorted.
type AskedCapabilities struct {
	Added   []string `json:"added,omitempty"`   // beyond docker's default ones, in any set
	Dropped []string `json:"dropped,omitempty"` // that every engine gives, and the bounding set lacks
	Ambient []string `json:"ambient,omitempty"`
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
	Value  *Text  `json:"value,omitzero"`   // of a variable by which programs find code, or that is declared public
	SHA384 string `json:"sha384,omitempty"` // of the value, where it may steer what code runs
	Unset  bool   `json:"unset,omitzero"`   // the image has it, and the container hasn't
}

// Mount is one mount. A bind has a Source, or is one of Volume, Anonymous, Secret and
// Engine (a pod's volume is Engine and has the name Volume too). A file system of the
// kernel's has none of these.
type Mount struct {
	Destination Text           `json:"destination"`
	Type        string         `json:"type,omitempty"`
	Options     []Text         `json:"options,omitempty"`
	Source      Text           `json:"source,omitempty"`   // as given
	Volume      Text           `json:"volume,omitempty"`   // name of an engine's volume
	Anonymous   bool           `json:"anonymous,omitzero"` // an engine's volume without a name
	Secret      Text           `json:"secret,omitempty"`   // name of an engine's secret
	Engine      bool           `json:"engine,omitzero"`    // a file that the engine made for this container
	Hidden      bool           `json:"hidden,omitzero"`    // a later mount covers it
	UIDMappings jsontext.Value `json:"uid_mappings,omitzero"`
	GIDMappings jsontext.Value `json:"gid_mappings,omitzero"`
}

// Device is a device node made in the container.
type Device struct {
	Path  Text    `json:"path"`
	Type  string  `json:"type"` // c, b, u, p
	Major Integer `json:"major"`
	Minor Integer `json:"minor"`
	Mode  *uint32 `json:"mode,omitzero"`
	UID   *uint32 `json:"uid,omitzero"`
	GID   *uint32 `json:"gid,omitzero"`
}

// DeviceRule is a rule of the device cgroup; a number left out means any.
type DeviceRule struct {
	Allow  bool     `json:"allow"`
	Type   string   `json:"type,omitempty"` // a, c, b
	Major  *Integer `json:"major,omitzero"`
	Minor  *Integer `json:"minor,omitzero"`
	Access string   `json:"access,omitempty"`
}

// Hook is a program that the runtime runs outside the container, as root.
type Hook struct {
	Stage       string   `json:"stage"` // prestart, createRuntime, createContainer, startContainer, poststart, poststop
	Path        Text     `json:"path"`
	Arguments   []Text   `json:"arguments,omitempty"`   // the container's id shown as {id}
	Environment []Text   `json:"environment,omitempty"` // likewise
	Timeout     *Integer `json:"timeout,omitzero"`      // seconds
	SHA384      string   `json:"sha384,omitempty"`      // of the file, where it could be read
}
