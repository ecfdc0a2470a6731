package power

import (
	"path"
	"slices"
	"strings"

	"github.com/cima-project/cima/daemon/procfs"
)

// maxOverlays bounds how many overlays lie on each other. The kernel has a bound too,
// but an overlay may seem to lie on itself, by its name.
const maxOverlays = 3

// kernelTrees are file systems that control the kernel, and the part of the host that
// each of them is, wherever it is mounted.
var kernelTrees = map[string]string{
	"proc": "/proc", "binfmt_misc": "/proc", "cgroup": "/sys/fs/cgroup", "cgroup2": "/sys/fs/cgroup",
	"sysfs": "/sys", "debugfs": "/sys", "tracefs": "/sys", "securityfs": "/sys", "configfs": "/sys", "bpf": "/sys",
	"efivarfs": "/sys", "pstore": "/sys", "selinuxfs": "/sys", "smackfs": "/sys", "resctrl": "/sys",
}

// mounts reads the mounts of the host's mount namespace.
func (h Host) mounts() ([]procfs.Mount, error) {
	if process, ok := strings.CutSuffix(h.Root, "/root"); ok && strings.HasPrefix(process, "/proc/") {
		return procfs.Mounts(process)
	}
	return procfs.Mounts("/proc/thread-self")
}

// upperOf returns the directory that an overlay writes to, "" where it writes to none.
// The kernel escapes the option, which may have been escaped when it was mounted.
func upperOf(m procfs.Mount) (upper string) {
	if m.Type != "overlay" {
		return ""
	}
	for option := range strings.SplitSeq(m.Options, ",") {
		if dir, ok := strings.CutPrefix(option, "upperdir="); ok {
			upper = procfs.Unescape(procfs.Unescape(dir))
		}
	}
	return upper
}

// behindMount judges the mount to which a bind leads. A volume's driver may have
// mounted a directory of the host there, whose parents don't show the part of the host
// to which it belongs; or an overlay that writes elsewhere; or a file system of the
// kernel's.
func (h Host) behindMount(b bind, seen sighted, at resolved, marks landmarks) []string {
	if b.depth > maxOverlays {
		return []string{classUnresolvedMount}
	}
	all, err := marks.mounts()
	last := seen.chain[len(seen.chain)-1]
	i := slices.IndexFunc(all, func(m procfs.Mount) bool { return m.ID == last.mount })
	if err != nil || i < 0 {
		return []string{classUnresolvedMount}
	}
	var out []string
	here := all[i]
	if part := kernelTrees[here.Type]; part != "" {
		out = append(out, classMount+part)
	}
	within := path.Join(here.Root, strings.TrimPrefix(h.Root+at.path, here.Point))
	for _, m := range all {
		if m.Device != here.Device || m.Point == here.Point || len(m.Root) > len(here.Root) {
			continue
		}
		rest, below := strings.CutPrefix(within+"/", strings.TrimSuffix(m.Root, "/")+"/")
		point, ours := strings.CutPrefix(m.Point, h.seenAs())
		if !ours || !below {
			continue
		}
		origin, from, _ := h.inspect(path.Join("/", point, rest))
		// Two mounts of a whole file system: neither is a part of the other.
		twice := m.Root == here.Root
		out = append(out, marks.classes(origin, bind{ofEngine: twice || b.ofEngine && (b.names(from.path) || marks.inEngine(seen))})...)
	}
	if upper := upperOf(here); upper != "" && !b.root && here.ID != seen.chain[0].mount {
		out = append(out, h.judgeUpper(b, path.Join(upper, within), marks)...)
	}
	return out
}

// seenAs returns the prefix of the mount points that are in the host's tree.
func (h Host) seenAs() string {
	if strings.HasPrefix(h.Root, "/proc/") {
		return ""
	}
	return h.Root
}

// judgeUpper judges the directory that an overlay writes to. Next to an overlay that an
// engine made, it is the engine's own.
func (h Host) judgeUpper(b bind, upper string, marks landmarks) []string {
	if !path.IsAbs(upper) {
		return []string{classUnresolvedMount}
	}
	ofEngine := b.ofEngine && within(path.Clean(upper), path.Dir(path.Clean(b.source)))
	return h.judge(bind{source: upper, ofEngine: ofEngine, depth: b.depth + 1}, marks).classes
}
