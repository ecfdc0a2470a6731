package predict

import (
	"fmt"
	"path"
	"strings"
)

// security takes --security-opt.
func (r *reader) security(s string) error {
	name, value, ok := strings.Cut(s, "=")
	if !ok {
		name, value, _ = strings.Cut(s, ":")
	}
	return r.c.SetSecurity(name, value)
}

// SetSecurity takes one option of docker's or podman's --security-opt.
func (c *Container) SetSecurity(name, value string) error {
	s := &c.Security
	switch {
	case name == "no-new-privileges":
		s.NoNewPrivileges = true
		if value != "" {
			var err error
			s.NoNewPrivileges, err = isTrue(value)
			return err
		}
	case value == "":
		return fmt.Errorf("%q must have a value", name)
	case name == "seccomp":
		s.SeccompUnconfined = value == "unconfined" // what a profile says stands in the defaults
	case name == "apparmor":
		s.AppArmor = value
	case name == "label":
		s.Labels = append(s.Labels, value)
	case name == "systempaths" && value == "unconfined":
		s.Unmask = append(s.Unmask, "ALL")
	case name == "unmask" && c.Engine == Podman:
		for p := range strings.SplitSeq(value, ":") {
			if strings.EqualFold(p, "all") {
				p = "ALL"
			}
			s.Unmask = append(s.Unmask, p)
		}
	case name == "mask" && c.Engine == Podman: // more is masked: nothing is asked for
	case name == "proc-opts" && c.Engine == Podman:
		s.procOptions = strings.Split(value, ",")
	case name == "writable-cgroups":
		c.Doubt("asked.mounts /sys/fs/cgroup", "--security-opt writable-cgroups: how it is mounted, the engine's version says", "")
	default:
		return fmt.Errorf("unknown security option %q", name)
	}
	return nil
}

// device takes --device HOST[:CONTAINER][:ACCESS].
func (r *reader) device(s string) error { return r.c.AddDevice(s) }

// AddDevice takes HOST[:CONTAINER][:ACCESS], or a name of the Container Device
// Interface: VENDOR/CLASS=NAME.
func (c *Container) AddDevice(s string) error {
	if before, _, ok := strings.Cut(s, "="); ok && !strings.HasPrefix(s, "/") && strings.Contains(before, "/") {
		instead := ""
		if before == "cima-project.github.io/agent" {
			instead = "; cimad's own has the launch digest of -e CIMA_SOCKET=/run/cima/cima.sock -v /run/cima:/run/cima:ro in its place"
		}
		c.Doubt("asked", fmt.Sprintf("the device %s: the host's CDI specification says what it is%s", s, instead), "")
		return nil
	}
	d, err := parseDevice(s)
	if err == nil {
		c.devices = append(c.devices, d)
	}
	return err
}

func parseDevice(s string) (device, error) {
	d := device{access: "rwm"}
	parts := strings.Split(s, ":")
	d.host = parts[0]
	d.path = d.host
	switch {
	case len(parts) == 2 && isAccess(parts[1]):
		d.access = parts[1]
	case len(parts) == 2 || len(parts) == 3:
		d.path = parts[1]
	}
	if len(parts) == 3 {
		d.access = parts[2]
	}
	if len(parts) > 3 || !isAccess(d.access) || !path.IsAbs(d.host) || !path.IsAbs(d.path) {
		return device{}, fmt.Errorf("a device %q must be HOST[:CONTAINER][:ACCESS], such as /dev/fuse or /dev/full:/dev/f:r", s)
	}
	d.host, d.path = path.Clean(d.host), path.Clean(d.path)
	return d, nil
}

func isAccess(s string) bool {
	return s != "" && len(s) <= 3 && strings.Trim(s, "rwm") == "" && strings.Count(s, "r") < 2 && strings.Count(s, "w") < 2 && strings.Count(s, "m") < 2
}
