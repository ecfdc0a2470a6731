package launch

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

// maxMountinfo bounds what is read of the host's mounts: fs.mount-max are 100,000.
const maxMountinfo = 64 << 20

// maxOverlays bounds how many overlays lie upon each other, which the kernel does
// too; by name one may seem to lie upon itself.
const maxOverlays = 3

// hostMount is a mount of the host's (proc_pid_mountinfo(5)).
type hostMount struct {
	id          uint64
	device      string // major:minor
	root, point string // directory of the file system, and where it is mounted
	kind        string // type of the file system
	upper       string // of an overlay, what is written to; "" where nothing is
}

// kernelTrees are file systems through which the kernel is told what to do, and the
// part of the host that they are, wherever they are mounted.
var kernelTrees = map[string]string{
	"proc": "/proc", "binfmt_misc": "/proc", "cgroup": "/sys/fs/cgroup", "cgroup2": "/sys/fs/cgroup",
	"sysfs": "/sys", "debugfs": "/sys", "tracefs": "/sys", "securityfs": "/sys", "configfs": "/sys", "bpf": "/sys",
	"efivarfs": "/sys", "pstore": "/sys", "selinuxfs": "/sys", "smackfs": "/sys", "resctrl": "/sys",
}

// mounts reads the mounts of the namespace that the tree is of.
func (h hostTree) mounts() ([]hostMount, error) {
	file := "/proc/thread-self/mountinfo"
	if dir, ok := strings.CutSuffix(h.root, "/root"); ok && strings.HasPrefix(dir, "/proc/") {
		file = dir + "/mountinfo"
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxMountinfo+1))
	if err == nil && len(text) > maxMountinfo {
		err = fmt.Errorf("%s has more than %d bytes", file, maxMountinfo)
	}
	if err != nil {
		return nil, err
	}
	return parseMountinfo(text)
}

func parseMountinfo(text []byte) ([]hostMount, error) {
	out := make([]hostMount, 0, bytes.Count(text, []byte("\n")))
	for line := range strings.Lines(string(text)) {
		mount, super, found := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
		fields, of := strings.Fields(mount), strings.Fields(super)
		if !found || len(fields) < 6 || len(of) < 3 {
			return nil, fmt.Errorf("a mount is told of in %d and %d fields", len(fields), len(of))
		}
		id, err := strconv.ParseUint(fields[0], 10, 64)
		if err != nil {
			return nil, err
		}
		m := hostMount{id: id, device: fields[2], root: unescaped(fields[3]), point: unescaped(fields[4]), kind: of[0]}
		if m.kind == "overlay" {
			for option := range strings.SplitSeq(of[2], ",") {
				if upper, ok := strings.CutPrefix(option, "upperdir="); ok {
					m.upper = unescaped(upper)
				}
			}
		}
		out = append(out, m)
	}
	return out, nil
}

// unescaped undoes the kernel's \ooo; an overlay escapes its own options first.
func unescaped(s string) string {
	for range 2 {
		if !strings.Contains(s, `\`) {
			break
		}
		var b strings.Builder
		for i := 0; i < len(s); i++ {
			if s[i] == '\\' && i+3 < len(s) {
				if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
					b.WriteByte(byte(n))
					i += 3
					continue
				}
			}
			b.WriteByte(s[i])
		}
		s = b.String()
	}
	return s
}

// behind judges what lies behind a mount that a bind leads to: a volume's driver
// may have mounted a directory of the host there, from which no way leads up to the
// part that it belongs to; an overlay that writes elsewhere; or the kernel's own.
func (h hostTree) behind(b bind, seen sighting, at spot, marks landmarks) []string {
	if b.depth > maxOverlays {
		return []string{PowerUnresolved}
	}
	all, err := marks.mounts()
	last := seen.chain[len(seen.chain)-1]
	i := slices.IndexFunc(all, func(m hostMount) bool { return m.id == last.mount })
	if err != nil || i < 0 {
		return []string{PowerUnresolved}
	}
	var out []string
	here := all[i]
	if part := kernelTrees[here.kind]; part != "" {
		out = append(out, PowerMount+part)
	}
	within := path.Join(here.root, strings.TrimPrefix(h.root+at.path, here.point))
	for _, m := range all {
		if m.device != here.device || m.point == here.point || len(m.root) > len(here.root) {
			continue
		}
		rest, below := strings.CutPrefix(within+"/", strings.TrimSuffix(m.root, "/")+"/")
		point, ours := strings.CutPrefix(m.point, h.seenAs())
		if !ours || !below {
			continue
		}
		origin, from, _ := h.see(path.Join("/", point, rest))
		// One file system in two places: what an engine mounted is no part of the other.
		twice := m.root == here.root
		out = append(out, marks.powers(origin, bind{ofEngine: twice || b.ofEngine && (b.names(from.path) || marks.inEngine(seen))})...)
	}
	if !b.root && here.kind == "overlay" && here.upper != "" && here.id != seen.chain[0].mount {
		out = append(out, h.judgeUpper(b, path.Join(here.upper, within), marks)...)
	}
	return out
}

// seenAs is what begins the points of mounts that are in the tree.
func (h hostTree) seenAs() string {
	if strings.HasPrefix(h.root, "/proc/") {
		return ""
	}
	return h.root
}

// judgeUpper judges where an overlay writes to. What the engine keeps beside an
// overlay that it made is its own.
func (h hostTree) judgeUpper(b bind, upper string, marks landmarks) []string {
	if !path.IsAbs(upper) {
		return []string{PowerUnresolved}
	}
	ofEngine := b.ofEngine && within(path.Clean(upper), path.Dir(path.Clean(b.source)))
	return h.judge(bind{source: upper, ofEngine: ofEngine, depth: b.depth + 1}, marks).powers
}
