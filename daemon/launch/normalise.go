package launch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/canonical"
)

// Rules say which parts of a launch the policy wants measured.
type Rules struct {
	Environment string   // EnvironmentNames (also if empty), EnvironmentDigest, EnvironmentNone
	Labels      []string // names of labels and annotations that are measured
}

// How the environment is shown.
const (
	EnvironmentNames  = "names"
	EnvironmentDigest = "digest" // names, and SHA-384 of each value
	EnvironmentNone   = "none"
)

// FromConfig normalises an OCI config.json as if it lay in a bundle of root's. cimactl
// predict needs it. The launch has no digests of files. The container's id is taken
// from its cgroupsPath.
func FromConfig(r io.Reader, rules Rules) (Launch, error) {
	c, err := Read(r)
	if err != nil {
		return Launch{}, fmt.Errorf("config.json: %w", err)
	}
	l, err := Normalise(c, c.ID(), rules)
	if err != nil {
		return Launch{}, fmt.Errorf("config.json: %w", err)
	}
	return l, nil
}

// Normalise makes the launch of a specification that root wrote for the container
// with this id.
func Normalise(c *Spec, id string, rules Rules) (Launch, error) {
	seccomp, err := seccompDigest(c.Linux.Seccomp)
	if err != nil {
		return Launch{}, err
	}
	p := c.Process
	l := Launch{
		Source:           logs.SourceBundle,
		Arguments:        p.Args,
		Environment:      rules.environment(p.Env, id),
		WorkingDirectory: p.Cwd,
		Terminal:         p.Terminal,
		User: User{
			UID: p.User.UID, GID: p.User.GID, Umask: p.User.Umask,
			AdditionalGIDs: sorted(p.User.AdditionalGIDs),
		},
		Capabilities: Capabilities{
			Bounding:    sorted(p.Capabilities.Bounding),
			Effective:   sorted(p.Capabilities.Effective),
			Permitted:   sorted(p.Capabilities.Permitted),
			Inheritable: sorted(p.Capabilities.Inheritable),
			Ambient:     sorted(p.Capabilities.Ambient),
		},
		NoNewPrivileges: p.NoNewPrivileges,
		Seccomp:         seccomp,
		AppArmor:        p.AppArmorProfile,
		SELinux:         selinuxType(p.SELinuxLabel),
		Namespaces:      namespaces(c),
		Mounts:          mounts(c, id),
		Sysctls:         c.Linux.Sysctl,
		RootReadOnly:    c.Root.Readonly,
		MaskedPaths:     sorted(c.Linux.MaskedPaths),
		ReadOnlyPaths:   sorted(c.Linux.ReadonlyPaths),
		Hooks:           hooks(c, id),
		Labels:          rules.Choose(c.Annotations),
		Annotations:     runtimeAnnotations(c, id),
	}
	l.Devices, l.DeviceRules, l.AllDevices = devices(c)
	return l, nil
}

// environment leaves out HOSTNAME, and container_uuid, which podman makes of the id for
// systemd. Of a variable whose value has the id in it, only the name is shown.
func (r Rules) environment(env []Text, id string) []Variable {
	if r.Environment == EnvironmentNone {
		return nil
	}
	last := map[Text]Variable{}
	for _, e := range env {
		name, value, _ := strings.Cut(string(e), "=")
		if name == "HOSTNAME" || name == "container_uuid" {
			continue
		}
		v := Variable{Name: Text(name)}
		if r.Environment == EnvironmentDigest && (len(id) < 12 || !strings.Contains(value, id[:12])) {
			v.SHA384 = sha384Hex([]byte(value))
		}
		last[v.Name] = v
	}
	out := make([]Variable, 0, len(last))
	for _, v := range last {
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b Variable) int { return strings.Compare(string(a.Name), string(b.Name)) })
	return out
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

// selinuxType returns the type of user:role:type:level. The level differs from run to
// run.
func selinuxType(label string) string {
	if parts := strings.SplitN(label, ":", 4); len(parts) >= 3 {
		return parts[2]
	}
	return label
}

// seccompDigest returns SHA-384 of the RFC 8785 form of a seccomp profile, with
// names and architectures sorted and integers beyond 2^53 as strings.
func seccompDigest(raw json.RawMessage) (string, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return "unconfined", nil
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
	form, err := canonical.Marshal(exactNumbers(profile))
	if err != nil {
		return "", fmt.Errorf("seccomp profile: %w", err)
	}
	return sha384Hex(form), nil
}

func sortStrings(v any) {
	list, _ := v.([]any)
	slices.SortStableFunc(list, func(a, b any) int {
		x, _ := a.(string)
		y, _ := b.(string)
		return strings.Compare(x, y)
	})
}

// exactNumbers keeps JCS, whose numbers are IEEE doubles, from making two
// large integers equal.
func exactNumbers(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = exactNumbers(v[k])
		}
	case []any:
		for i := range v {
			v[i] = exactNumbers(v[i])
		}
	case json.Number:
		if n, err := v.Int64(); err != nil || n > 1<<53 || n < -(1<<53) {
			return v.String()
		}
	}
	return v
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
