// Package power answers: could a container act as root of the guest?
//
// Of names the classes of power that a specification shows by itself, before anything
// runs. Judge looks at the container's first process when the runtime's set-up is done
// and no instruction of the container has run: at what the kernel has mounted, joined,
// opened and given, whatever the specification's text says.
//
// Both have lists of what is harmless; all else is a class (cima-evidence(7), Classes of
// power). Classes are public: their words are fixed, or are the kernel's and the
// specification's, and name nothing that a user chose.
package power

import (
	"path"
	"slices"
	"strings"

	"github.com/cima-project/cima/daemon/launch"
)

// Classes of power. Those that end in ":" are followed by what they are about.
const (
	classPrivileged   = "privileged"    // every device, and CAP_SYS_ADMIN
	classUnconfined   = "unconfined:"   // seccomp, apparmor, selinux, or paths: it may write /proc/sys, /proc/sysrq-trigger or the like
	classConfined     = "confined:"     // seccomp, apparmor or selinux: by a profile of unknown strength
	classCapability   = "capability:"   // CAP_…, beyond docker's default set
	classDevice       = "device:"       // type:major:minor beyond the default ones; "*" is any
	classNamespace    = "namespace:"    // ipc, mount, network, pid or uts of the host, or one that may be the host's
	classJoined       = "joined:"       // likewise, of another container
	classCgroupParent = "cgroup-parent" // lies in another container's cgroup
	classNoCgroup     = "no-cgroup"     // declares no cgroup of its own
	classAnnotation   = "annotation:"   // makes the runtime do, by an annotation, what the specification does not say
	classHook         = "hook:"         // has the runtime run a program on the host
	classSysctl       = "sysctl:"       // sets what no namespace of its own has
	classSetting      = "setting:"      // a setting of the specification that nobody needs usually
	classUnknown      = "unknown:"      // a member of the specification that no table names
	classMountOption  = "mount-option"  // beyond those that take rights away or bound sizes
	classPropagation  = "propagation"   // what it mounts there the host has, too

	classMount      = "mount:"            // has this type of file system, not its own
	classRead       = "host-read:"        // may read below this directory of the host what not all may read
	classWrite      = "host-write:"       // may write below this directory of the host
	classSpecial    = "special-file:"     // has a socket, FIFO or device of the host's from below this directory
	classCovered    = "covered:"          // has such a mount where nobody can look at it
	classDataSocket = "data-with-sockets" // declared data with a socket of the host's in it
	classDataUnseen = "data-unseen"       // declared data, and the sockets of the host aren't known
	classDescriptor = "descriptor"        // was given an open file
	classDirectory  = "working-directory" // its working directory lies in no mount of its own
	unknownElse     = "other"             // instead of a name that a user could have chosen
)

// NoMetadata is the class of a container of which nothing is known.
const NoMetadata = "no-metadata"

// UnseenStart is the class of a container that nobody looked at between the end of its
// runtime's set-up and its first instruction.
const UnseenStart = "unseen-start"

// RuntimeOption is the class of a container whose engine told its runtime more than the
// bundle says, by an option of which it isn't known that it changes nothing.
const RuntimeOption = "runtime-option"

// ReplaceableBundle is the class of a container whose bundle a user of the host could
// replace before the runtime reads it: then it may have any power.
const ReplaceableBundle = "replaceable-bundle"

// Facts are what a bundle shows of a container's power. The zero value is that of a
// rootless engine's container, which runs with its user's rights and has no power.
type Facts struct {
	bundle *bundleFacts // shared by all copies
	cgroup []string     // classes that the container's cgroup shows
}

type bundleFacts struct {
	id        string // the container's
	sandbox   string // id of the first container of its pod
	classes   []string
	joined    []string          // kinds of namespaces that it enters by a path
	sources   map[string]string // destination → the path that is bound there, by the text; "" where it is no bind
	annotated bool              // has annotations
}

// Of returns what the bundle in dir shows of the container with this id.
func Of(c *launch.Spec, l launch.Launch, id, dir string) Facts {
	b := &bundleFacts{
		id: id, sandbox: c.Sandbox(), classes: specClasses(c, l), joined: joined(c, id),
		annotated: len(l.Asked.Annotations) > 0, sources: make(map[string]string),
	}
	for _, m := range c.Mounts {
		from := ""
		if launch.IsBind(m) {
			from = path.Clean(string(m.Source))
			if !path.IsAbs(from) {
				from = path.Join(dir, from)
			}
		}
		b.sources[path.Clean("/"+string(m.Destination))] = from // the last one is on top
	}
	return Facts{bundle: b}
}

// Mounts reports whether the specification binds a path at a destination.
func (f Facts) Mounts(from, destination string) bool {
	return f.bundle != nil && f.bundle.sources[destination] == from
}

// SourcesIn returns those sources of the specification's binds that lie in a directory.
func (f Facts) SourcesIn(dir string) (names []string) {
	if f.bundle == nil {
		return nil
	}
	for _, from := range f.bundle.sources {
		if path.Dir(from) == dir {
			names = append(names, from)
		}
	}
	return names
}

// InCgroup returns the facts with the classes that the container's cgroup path shows.
// isContainer reports whether an id is that of a container.
func (f Facts) InCgroup(cgroupPath string, isContainer func(id string) bool) Facts {
	if f.bundle == nil {
		return f
	}
	f.cgroup = nil
	if cgroupPath == "" {
		f.cgroup = append(f.cgroup, classNoCgroup)
	}
	for name := range strings.SplitSeq(path.Dir(cgroupPath), "/") {
		if id := launch.HexID(name); id != "" && id != f.bundle.id && id != f.bundle.sandbox && isContainer(id) {
			f.cgroup = append(f.cgroup, classCgroupParent)
		}
	}
	return f
}

// Classes are, sorted, those that the specification and the cgroup's path show. Cgroup
// and user namespaces of the host are no class: they are the default, and dangerous only
// together with a class.
func (f Facts) Classes() []string {
	if f.bundle == nil {
		return nil
	}
	return distinct(slices.Concat(f.bundle.classes, f.cgroup))
}

// distinct returns a sorted copy without duplicates.
func distinct(list []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(list)))
}
