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
		s.ProcOptions = strings.Split(value, ",")
	case name == "writable-cgroups":
		c.unknown("asked.mounts /sys/fs/cgroup", "--security-opt writable-cgroups: how it is mounted, the engine's version says", "")
	default:
		return fmt.Errorf("unknown security option %q", name)
	}
	return nil
}

// device takes --device HOST[:CONTAINER][:ACCESS].
func (r *reader) device(s string) error {
	d, err := ParseDevice(s)
	if err != nil {
		return err
	}
	if d.Host == "" {
		r.c.unknown("asked", fmt.Sprintf("--device %s: the host's CDI specification says what it is", s), "")
		return nil
	}
	r.c.Devices = append(r.c.Devices, d)
	return nil
}

// ParseDevice reads HOST[:CONTAINER][:ACCESS]. A name of the Container Device
// Interface (VENDOR/CLASS=NAME) gives a Device without members.
func ParseDevice(s string) (Device, error) {
	if before, _, ok := strings.Cut(s, "="); ok && !strings.HasPrefix(s, "/") && strings.Contains(before, "/") {
		return Device{}, nil
	}
	d := Device{Access: "rwm"}
	parts := strings.Split(s, ":")
	d.Host = parts[0]
	d.Path = d.Host
	switch {
	case len(parts) == 2 && isAccess(parts[1]):
		d.Access = parts[1]
	case len(parts) == 2 || len(parts) == 3:
		d.Path = parts[1]
	}
	if len(parts) == 3 {
		d.Access = parts[2]
	}
	if len(parts) > 3 || !isAccess(d.Access) || !path.IsAbs(d.Host) || !path.IsAbs(d.Path) {
		return Device{}, fmt.Errorf("a device %q must be HOST[:CONTAINER][:ACCESS], such as /dev/fuse or /dev/full:/dev/f:r", s)
	}
	d.Host, d.Path = path.Clean(d.Host), path.Clean(d.Path)
	return d, nil
}

func isAccess(s string) bool {
	return s != "" && len(s) <= 3 && strings.Trim(s, "rwm") == "" && strings.Count(s, "r") < 2 && strings.Count(s, "w") < 2 && strings.Count(s, "m") < 2
}
