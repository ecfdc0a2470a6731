package power

import (
	"path"
	"slices"
	"strings"

	"github.com/cima-project/cima/daemon/procfs"
)

// maxOverlays bounds how many overlays lie upon each other, which the kernel does
// too; by name one may seem to lie upon itself.
const maxOverlays = 3

// kernelTrees are file systems through which the kernel is told what to do, and the
// part of the host that they are, wherever they are mounted.
var kernelTrees = map[string]string{
	"proc": "/proc", "binfmt_misc": "/proc", "cgroup": "/sys/fs/cgroup", "cgroup2": "/sys/fs/cgroup",
	"sysfs": "/sys", "debugfs": "/sys", "tracefs": "/sys", "securityfs": "/sys", "configfs": "/sys", "bpf": "/sys",
	"efivarfs": "/sys", "pstore": "/sys", "selinuxfs": "/sys", "smackfs": "/sys", "resctrl": "/sys",
}

// mounts reads the mounts of the namespace that the tree is of.
func (h Host) mounts() ([]procfs.Mount, error) {
	if process, ok := strings.CutSuffix(h.Root, "/root"); ok && strings.HasPrefix(process, "/proc/") {
		return procfs.Mounts(process)
	}
	return procfs.Mounts("/proc/thread-self")
}

// upperOf is what an overlay writes to, "" where nothing is. The kernel escapes
// the option that whoever mounted the overlay may have escaped before.
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

// behind judges what lies behind a mount that a bind leads to: a volume's driver
// may have mounted a directory of the host there, from which no way leads up to the
// part that it belongs to; an overlay that writes elsewhere; or the kernel's own.
func (h Host) behind(b bind, seen sighting, at resolved, marks landmarks) []string {
	if b.depth > maxOverlays {
		return []string{UnresolvedMount}
	}
	all, err := marks.mounts()
	last := seen.chain[len(seen.chain)-1]
	i := slices.IndexFunc(all, func(m procfs.Mount) bool { return m.ID == last.mount })
	if err != nil || i < 0 {
		return []string{UnresolvedMount}
	}
	var out []string
	here := all[i]
	if part := kernelTrees[here.Type]; part != "" {
		out = append(out, Mount+part)
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
		origin, from, _ := h.see(path.Join("/", point, rest))
		// One file system in two places: what an engine mounted is no part of the other.
		twice := m.Root == here.Root
		out = append(out, marks.powers(origin, bind{ofEngine: twice || b.ofEngine && (b.names(from.path) || marks.inEngine(seen))})...)
	}
	if upper := upperOf(here); upper != "" && !b.root && here.ID != seen.chain[0].mount {
		out = append(out, h.judgeUpper(b, path.Join(upper, within), marks)...)
	}
	return out
}

// seenAs is what begins the points of mounts that are in the tree.
func (h Host) seenAs() string {
	if strings.HasPrefix(h.Root, "/proc/") {
		return ""
	}
	return h.Root
}

// judgeUpper judges where an overlay writes to. What the engine keeps beside an
// overlay that it made is its own.
func (h Host) judgeUpper(b bind, upper string, marks landmarks) []string {
	if !path.IsAbs(upper) {
		return []string{UnresolvedMount}
	}
	ofEngine := b.ofEngine && within(path.Clean(upper), path.Dir(path.Clean(b.source)))
	return h.judge(bind{source: upper, ofEngine: ofEngine, depth: b.depth + 1}, marks).powers
}
