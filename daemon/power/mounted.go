package power

import (
	"path"
	"strings"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/procfs"
	"github.com/cima-project/cima/logs"
)

// note adds a mount to the places that are logged, if what is mounted lies elsewhere than
// the text of its source says.
func (j *judge) note(m *procfs.Mount) {
	if m.Point == "/" || j.own(m) || m.Type == "cgroup" || m.Type == "cgroup2" {
		return
	}
	said := j.said(m.Point)
	paths := j.tables.paths(m)
	if said != "" && j.tables.leads(said, m) || said == "" && len(paths) == 0 {
		return
	}
	where := named(m.Type) + ":" + m.Root
	if len(paths) > 0 {
		where = paths[0]
	}
	j.mounted = append(j.mounted, logs.MountedPlace{Destination: launch.Text(m.Point), Place: launch.Text(where)})
}

// said is the host's path that the specification's text names for a mount point; "" where
// it is no bind's.
func (j *judge) said(point string) string {
	for dir := point; ; dir = path.Dir(dir) {
		from, ok := j.c.bundle.sources[dir]
		if from != "" {
			return path.Join(from, strings.TrimPrefix(point, dir))
		}
		if ok || dir == "/" {
			return ""
		}
	}
}
