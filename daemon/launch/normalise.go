package launch

import (
	"bytes"
	"encoding/json"
	"encoding/json/jsontext"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/cima-project/cima/logs"
)

// Rules say what the configuration wants shown.
type Rules struct {
	Labels []string // names of labels and annotations
	Public []string // names of variables whose values are shown
}

// Known is what others know of a container and its bundle does not say. The zero value
// knows nothing: then nothing counts as the image's, and no volume as anonymous.
type Known struct {
	Image *ImageConfig // by which the container was made

	// Home is the home directory that the image's passwd names for the container's user.
	Home Text

	// Anonymous reports whether the engine made a volume for this container alone. The
	// form of its name proves nothing: anybody may name a volume so.
	Anonymous func(volume string) bool

	// Shares reports whether the engine's record says that the container has the network
	// of the container with this id, whose files then lie in its /etc.
	Shares func(id string) bool

	// Directories hold the files that the engine made for this container, where they lie
	// elsewhere than the engine's storage shows.
	Directories []string

	// HostNamespaces are the types of namespaces that are the host's by the kernel's word,
	// whatever their paths look like.
	HostNamespaces []string
}

// FromConfig normalises an OCI config.json as if it lay in a bundle of root's. cimactl
// predict needs it. The launch has no digests of files. The container's id is taken
// from its cgroupsPath.
func FromConfig(r io.Reader, rules Rules, known Known) (Launch, error) {
	c, err := Read(r)
	if err != nil {
		return Launch{}, fmt.Errorf("config.json: %w", err)
	}
	l, err := Normalise(c, c.ID(), rules, known)
	if err != nil {
		return Launch{}, fmt.Errorf("config.json: %w", err)
	}
	return l, nil
}

// normaliser has what a launch is made of.
type normaliser struct {
	c     *Spec
	id    string
	pod   bool // a kubelet's runtime made the container for a pod
	rules Rules
	known Known
	ipc   string // whose namespace it has
}

// Normalise makes the launch of a specification that root wrote for the container
// with this id.
func Normalise(c *Spec, id string, rules Rules, known Known) (Launch, error) {
	n := &normaliser{c: c, id: id, rules: rules, known: known, pod: c.ofPod() && c.Sandbox() != ""}
	seccomp, err := seccompDigest(c.Linux.Seccomp)
	if err != nil {
		return Launch{}, err
	}
	l := Launch{Source: logs.SourceBundle}
	if known.Image != nil {
		l.ImageConfig = known.Image.Digest
	}
	a, d := n.process()
	n.namespaces(a, d)
	if seccomp == "" {
		a.Seccomp = "unconfined"
	}
	d.Seccomp = seccomp
	n.confinement(a, d)
	n.mounts(a, d)
	a.Devices, a.DeviceRules, a.AllDevices = c.deviceAccess()
	d.DeviceRules = n.allRules()
	a.Sysctls, d.Sysctls = n.sysctls()
	a.Hooks = hooks(c, id)
	n.annotations(a, d)
	n.hostname(a, d)
	l.Limits = n.members(a)
	l.Asked, l.Defaults = a, d
	return l, nil
}

// process is what the specification says of the first process.
func (n *normaliser) process() (*Asked, *Defaults) {
	p := n.c.Process
	groups := slices.DeleteFunc(sorted(p.User.AdditionalGIDs), func(gid uint32) bool { return gid == p.User.GID })
	a := &Asked{
		Arguments:        p.Args,
		WorkingDirectory: p.Cwd,
		Terminal:         p.Terminal,
		User:             User{UID: p.User.UID, GID: p.User.GID, AdditionalGIDs: groups},
		NoNewPrivileges:  p.NoNewPrivileges,
		Domainname:       n.c.Domainname,
	}
	d := &Defaults{Capabilities: Capabilities{
		Bounding:    sorted(p.Capabilities.Bounding),
		Effective:   sorted(p.Capabilities.Effective),
		Permitted:   sorted(p.Capabilities.Permitted),
		Inheritable: sorted(p.Capabilities.Inheritable),
		Ambient:     sorted(p.Capabilities.Ambient),
	}}
	if u := p.User.Umask; u != nil && *u == engineUmask {
		d.Umask = u
	} else {
		a.User.Umask = u
	}
	for _, name := range sorted(slices.Concat(d.Capabilities.Bounding, d.Capabilities.Effective, d.Capabilities.Permitted, d.Capabilities.Inheritable, d.Capabilities.Ambient)) {
		if !slices.Contains(dockerCapabilities, name) {
			a.Capabilities.Added = append(a.Capabilities.Added, name)
		}
	}
	for _, name := range commonCapabilities {
		if !slices.Contains(d.Capabilities.Bounding, name) {
			a.Capabilities.Dropped = append(a.Capabilities.Dropped, name)
		}
	}
	a.Capabilities.Ambient = d.Capabilities.Ambient
	a.Environment, d.Environment = n.environment()
	return a, d
}

// members shows what stands in the launch as it is, and returns the limits.
func (n *normaliser) members(a *Asked) Members {
	a.Members, a.Unknown = n.withoutIDs(n.c.found.members), n.withoutIDs(n.c.found.unknown)
	if label := selinuxType(n.c.Linux.MountLabel); label != "" && label != "container_file_t" {
		a.Members["linux.mountLabel"] = quote(Text(label))
	}
	if v := n.c.Version; v != "" && !strings.HasPrefix(string(v), "1.") {
		a.Unknown["ociVersion"] = quote(v)
	}
	if types := n.strangeNamespaces(); types != nil {
		a.Unknown["linux.namespaces[].type"] = array(types)
	}
	limits := n.withoutIDs(n.c.found.limits)
	for _, m := range n.c.Mounts {
		if m.Destination != "/dev/shm" || m.Type != "tmpfs" || IsBind(m) {
			continue
		}
		for _, o := range MountOptions(m.Options) {
			if isSize(o) && o != "size=67108864" && o != "size=65536k" {
				limits["mounts[/dev/shm].size"] = quote(Text(strings.TrimPrefix(string(o), "size=")))
			}
		}
	}
	return limits
}

func (n *normaliser) withoutIDs(members Members) Members {
	out := make(Members, len(members))
	for path, value := range members {
		out[string(withoutID(Text(path), n.id))] = jsontext.Value(withoutID(Text(value), n.id))
	}
	return out
}

func quote(t Text) jsontext.Value {
	text, _ := t.MarshalJSON() // of a string: never an error
	return text
}

// sysctls separates the engines' defaults, as exact pairs, from what was asked for.
func (n *normaliser) sysctls() (asked, engines map[string]Text) {
	for name, value := range n.c.Linux.Sysctl {
		into := &asked
		if slices.Contains(engineSysctls, Text(name)+"="+value) {
			into = &engines
		}
		if *into == nil {
			*into = map[string]Text{}
		}
		(*into)[name] = value
	}
	return asked, engines
}

// hostname leaves out the name that engines make of the id, and a pod's name. In the
// host's network engines give the host's own name.
func (n *normaliser) hostname(a *Asked, d *Defaults) {
	name := n.c.Hostname
	switch {
	case name == "", n.pod, len(n.id) >= 12 && name == Text(n.id[:12]):
	case a.Namespaces["network"] == namespaceJoined && (n.c.runtime == "docker" || n.c.runtime == ""):
		// The other container's name: docker refuses another one.
	case a.Namespaces["network"] == NamespaceHost, a.Namespaces["uts"] == NamespaceHost:
		d.Hostname = name
	default:
		a.Hostname = name
	}
}

// Choose returns those labels that the rules name.
func (r Rules) Choose(have map[string]Text) map[string]Text {
	out := map[string]Text{}
	for _, name := range r.Labels {
		if v, ok := have[name]; ok {
			out[name] = v
		}
	}
	return out
}

// seccompDigest returns SHA-384 of the RFC 8785 form of a seccomp profile, with
// names and architectures sorted and integers beyond 2^53 as strings, and "" where
// there is no profile.
func seccompDigest(raw jsontext.Value) (string, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return "", nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var profile map[string]any
	if err := d.Decode(&profile); err != nil {
		return "", fmt.Errorf("seccomp profile: %w", err)
	}
	sortStrings(profile["architectures"])
	sortStrings(profile["flags"])
	if calls, ok := profile["syscalls"].([]any); ok {
		for _, call := range calls {
			if call, ok := call.(map[string]any); ok {
				sortStrings(call["names"])
			}
		}
	}
	text, err := json.Marshal(profile)
	if err != nil {
		return "", fmt.Errorf("seccomp profile: %w", err)
	}
	return sha384Hex(form(text)), nil
}

func sortStrings(v any) {
	list, _ := v.([]any)
	slices.SortStableFunc(list, func(a, b any) int {
		x, _ := a.(string)
		y, _ := b.(string)
		return strings.Compare(x, y)
	})
}

// sorted returns a sorted copy without duplicates.
func sorted[T ~string | ~uint32](list []T) []T {
	out := slices.Clone(list)
	slices.Sort(out)
	return slices.Compact(out)
}

// HexID returns the 64 hex digits at the end of a name such as
// "docker-<id>.scope" or "libpod-<id>", and "" where there are none.
func HexID(name string) string {
	name = strings.TrimSuffix(name, ".scope")
	if i := len(name) - 64; i >= 0 && IsID(name[i:]) && (i == 0 || name[i-1] == '-') {
		return name[i:]
	}
	return ""
}

// IsID reports whether s is an id of docker's or podman's: 64 lower-case hex digits.
func IsID(s string) bool {
	if len(s) != 64 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
