package peer

import (
	"fmt"
	"strings"
)

// Limits of /proc/PID/cgroup. The kernel has about 15 controllers, root can mount
// named hierarchies, and a path has at most PATH_MAX bytes.
const (
	maxCgroupFile  = 64 << 10
	maxHierarchies = 64
	maxDepth       = 64
	maxName        = 255
)

// hierarchy is one line of /proc/PID/cgroup: a hierarchy and a process's place in it.
type hierarchy struct {
	controllers string // "memory", "cpu,cpuacct", "name=systemd"; empty: unified
	path        string // from the hierarchy's root, clean: "/", "/docker/<id>"
}

// String names the hierarchy in messages.
func (h hierarchy) String() string {
	if h.controllers == "" {
		return "unified"
	}
	return h.controllers
}

// parseCgroup reads /proc/PID/cgroup (cgroups(7)): lines of
// "hierarchy-ID:controller-list:path", with an ID of 0 and no controllers for
// cgroup v2. Anything that the kernel does not write is an error.
func parseCgroup(text string) ([]hierarchy, error) {
	if len(text) > maxCgroupFile {
		return nil, fmt.Errorf("cgroup file: must have at most %d bytes", maxCgroupFile)
	}
	if text == "" || text[len(text)-1] != '\n' {
		return nil, fmt.Errorf("cgroup file: its last line is cut off")
	}
	n := strings.Count(text, "\n")
	if n > maxHierarchies {
		return nil, fmt.Errorf("cgroup file: has %d lines, must have at most %d", n, maxHierarchies)
	}
	hs := make([]hierarchy, 0, n)
	for line := range strings.SplitSeq(text[:len(text)-1], "\n") {
		h, err := parseHierarchy(line)
		if err != nil {
			return nil, fmt.Errorf("cgroup file: line %d: %w", len(hs)+1, err)
		}
		for _, other := range hs {
			if other.controllers == h.controllers {
				return nil, fmt.Errorf("cgroup file: two lines for hierarchy %s", h)
			}
		}
		hs = append(hs, h)
	}
	return hs, nil
}

func parseHierarchy(line string) (hierarchy, error) {
	number, rest, ok1 := strings.Cut(line, ":")
	controllers, path, ok2 := strings.Cut(rest, ":")
	if !ok1 || !ok2 {
		return hierarchy{}, fmt.Errorf("%q must have two colons", line)
	}
	if number == "" || strings.Trim(number, "0123456789") != "" {
		return hierarchy{}, fmt.Errorf("hierarchy %q must be a number", number)
	}
	if (number == "0") != (controllers == "") {
		return hierarchy{}, fmt.Errorf("hierarchy %s with controllers %q", number, controllers)
	}
	if strings.ContainsAny(controllers, "/ \t") {
		return hierarchy{}, fmt.Errorf("controllers %q", controllers)
	}
	if err := checkPath(path); err != nil {
		return hierarchy{}, err
	}
	return hierarchy{controllers, path}, nil
}

// checkPath refuses a path that no living process has, as seen from the root cgroup
// namespace.
func checkPath(path string) error {
	if path == "/" {
		return nil
	}
	if path == "" || path[0] != '/' {
		return fmt.Errorf("path %q must begin with /", path)
	}
	if strings.HasSuffix(path, " (deleted)") {
		return fmt.Errorf("path %q was removed", path)
	}
	depth := 0
	for name := range strings.SplitSeq(path[1:], "/") {
		depth++
		switch {
		case name == "..":
			return fmt.Errorf("path %q lies outside the daemon's cgroup namespace", path)
		case name == "" || name == ".":
			return fmt.Errorf("path %q must be clean", path)
		case len(name) > maxName || depth > maxDepth:
			return fmt.Errorf("path of %d bytes is too deep or has too long a name", len(path))
		}
	}
	return nil
}

// holdsID reports whether the name of a cgroup holds a container id: 64 lower-case hex
// digits, with no letter or digit next to them, as all engines write it ("<id>",
// "docker-<id>.scope", "libpod-payload-<id>"). The scopes of the monitors of podman
// and CRI-O hold the id too, but are no containers.
func holdsID(name string) bool {
	const idLength = 64
	for start := 0; start < len(name); start++ {
		end := start
		for end < len(name) && isLowerHex(name[end]) {
			end++
		}
		setOff := (start == 0 || !isAlnum(name[start-1])) && (end == len(name) || !isAlnum(name[end]))
		if end-start == idLength && setOff && !strings.HasSuffix(name[:start], "-conmon-") {
			return true
		}
		start = end
	}
	return false
}

func isLowerHex(b byte) bool { return '0' <= b && b <= '9' || 'a' <= b && b <= 'f' }

func isAlnum(b byte) bool {
	return '0' <= b && b <= '9' || 'a' <= b|0x20 && b|0x20 <= 'z'
}

// systemdPath returns the path in the hierarchy that systemd manages.
func systemdPath(hs []hierarchy) (path string) {
	for _, h := range hs {
		if h.controllers == "name=systemd" {
			return h.path
		}
		if h.controllers == "" {
			path = h.path
		}
	}
	return path
}

// unitOf returns the systemd unit of a process, or "": the first name below the
// slices. systemd made that cgroup; a unit with delegation makes those further down.
func unitOf(hs []hierarchy) string {
	for name := range strings.SplitSeq(strings.Trim(systemdPath(hs), "/"), "/") {
		name = strings.TrimPrefix(name, "_") // systemd's escape of reserved names
		dot := strings.LastIndexByte(name, '.')
		if dot <= 0 {
			return ""
		}
		switch name[dot:] {
		case ".slice":
			continue
		case ".service", ".scope", ".socket", ".mount", ".swap":
			return name
		default:
			return ""
		}
	}
	return ""
}
