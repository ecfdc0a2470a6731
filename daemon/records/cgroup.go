package records

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// cgroupPath translates linux.cgroupsPath into the path from the root of the
// hierarchy. The cgroupfs form is that path already; the systemd form
// "slice:prefix:name" is the unit prefix-name.scope below the slice
// (runc docs/systemd.md; systemd.slice(5) for the nesting). The unit of a rootless
// engine is its user manager's. The result is empty where the runtime decides: where
// there is no path, or one relative to the runtime's own cgroup.
func cgroupPath(declared string, uid uint32) (string, error) {
	if declared == "" {
		return "", nil
	}
	if strings.ContainsAny(declared, "\x00\n") || len(declared) > 4096 {
		return "", errors.New("cgroupsPath must be a path of at most 4096 bytes")
	}
	if strings.HasPrefix(declared, "/") {
		if clean := path.Clean(declared); clean != "/" {
			return clean, nil
		}
		return "", errors.New("cgroupsPath must lie below the root of the hierarchy")
	}
	parts := strings.Split(declared, ":")
	if len(parts) != 3 {
		return "", nil
	}
	slice, prefix, name := parts[0], parts[1], parts[2]
	if name == "" || strings.Contains(prefix+name, "/") {
		return "", fmt.Errorf("cgroupsPath %q must name a unit", declared)
	}
	base := ""
	if uid != 0 {
		base = userManager(uid)
	}
	if slice == "" {
		slice = "system.slice"
		if uid != 0 {
			slice = "user.slice"
		}
	}
	above, err := slicePath(slice)
	if err != nil {
		return "", err
	}
	unit := prefix + "-" + name + ".scope"
	if strings.HasSuffix(name, ".slice") {
		unit = name
	}
	return path.Join("/", base, above, unit), nil
}

// userManager is the cgroup of a user's service manager (user@.service(5)).
func userManager(uid uint32) string {
	return fmt.Sprintf("/user.slice/user-%d.slice/user@%d.service", uid, uid)
}

// slicePath nests a slice by its dashes: a-b.slice is /a.slice/a-b.slice.
func slicePath(slice string) (string, error) {
	const maxName = 255 // bytes of a unit's name; the path grows with their square
	name, ok := strings.CutSuffix(slice, ".slice")
	if !ok || strings.Contains(name, "/") || len(slice) > maxName {
		return "", fmt.Errorf("%.300q must be a slice", slice)
	}
	if name == "-" {
		return "/", nil
	}
	out, prefix := "/", ""
	for part := range strings.SplitSeq(name, "-") {
		if part == "" {
			return "", fmt.Errorf("%q must be a slice", slice)
		}
		prefix += part
		out = path.Join(out, prefix+".slice")
		prefix += "-"
	}
	return out, nil
}

// actualPath returns the cgroup into which runc put the container, from the
// cgroup_paths of its state: controller → directory, with "" for the unified
// hierarchy. It is empty where the hierarchies don't agree on one path.
func actualPath(paths map[string]string) string {
	found := ""
	for controller, dir := range paths {
		p, ok := strings.CutPrefix(path.Clean(dir), "/sys/fs/cgroup/")
		if !ok {
			return ""
		}
		switch {
		case controller != "":
			_, p, _ = strings.Cut(p, "/")
		case len(paths) > 1:
			p = strings.TrimPrefix(p, "unified/")
		}
		if p = "/" + p; found != "" && p != found {
			return ""
		}
		found = p
	}
	return found
}
