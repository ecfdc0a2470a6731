package launch

import (
	"iter"
	"strings"
)

// A fate is what becomes of a member of the specification.
type fate string

const (
	asIs       fate = "verbatim"   // in a digest, as it stands
	asSet      fate = "sorted"     // in a digest, without its order
	normalised fate = "normalised" // in a digest, without what differs between equal command lines
	limit      fate = "limit"      // in the event, and in no digest: a quantity
	dropped    fate = "dropped"    // nowhere
)

// row says what becomes of one member of the specification, and of all that it holds.
// Below its path, [] is an element of an array, and {} a value whose name is data.
type row struct {
	path  string
	fate  fate
	holds string // the members below it, separated by blanks; none if it holds plain values
	what  string // where it is in the launch, or why it is nowhere
}

const (
	asMember = "*members*"
	asLimit  = "*limits*"
	mapping  = "[].containerID [].hostID [].size"
	hook     = "[].path [].args[] [].env[] [].timeout"
)

// fates are those of every member of the runtime specification 1.3.0 that Linux has.
// cima-evidence(7) has the same table.
var fates = []row{
	{"ociVersion", dropped, "", "version of the engine's library; if its major version is not 1, in *unknown*"},
	{"process.terminal", asIs, "", "*terminal*"},
	{"process.consoleSize", dropped, "height width", "size of the client's window"},
	{"process.user.uid", asIs, "", "*user*"},
	{"process.user.gid", asIs, "", "*user*"},
	{"process.user.umask", normalised, "", "*user*; podman's default is in the defaults"},
	{"process.user.additionalGids[]", asSet, "", "*user*, without *gid*"},
	{"process.args[]", asIs, "", "*arguments*"},
	{"process.env[]", normalised, "", "*environment*"},
	{"process.cwd", asIs, "", "*working_directory*"},
	{"process.capabilities.bounding[]", asSet, "", "*capabilities*, and all sets in the defaults"},
	{"process.capabilities.effective[]", asSet, "", "likewise"},
	{"process.capabilities.inheritable[]", asSet, "", "likewise"},
	{"process.capabilities.permitted[]", asSet, "", "likewise"},
	{"process.capabilities.ambient[]", asSet, "", "likewise"},
	{"process.rlimits", limit, "[].type [].hard [].soft", asLimit},
	{"process.noNewPrivileges", asIs, "", "*no_new_privileges*"},
	{"process.apparmorProfile", normalised, "", "*apparmor*; an engine's own, without its version, is in the defaults"},
	{"process.oomScoreAdj", limit, "", asLimit},
	{"process.scheduler", asIs, "policy nice priority flags[] runtime deadline period", asMember},
	{"process.selinuxLabel", normalised, "", "*selinux*: the type; an engine's own is in the defaults"},
	{"process.ioPriority", limit, "class priority", asLimit},
	{"process.execCPUAffinity", limit, "initial final", asLimit},
	{"root.path", dropped, "", "made of random ids; judged at the start"},
	{"root.readonly", asIs, "", "*root_read_only*"},
	{"hostname", normalised, "", "*hostname*, unless made of the id or a pod's name; the host's name, in its network or uts namespace, is in the defaults"},
	{"domainname", asIs, "", "*domainname*"},
	{"mounts[].destination", normalised, "", "*mounts*, sorted; an engine's own are in the defaults"},
	{"mounts[].type", normalised, "", "likewise; \"bind\" if the options say so"},
	{"mounts[].source", normalised, "", "by what it is; the name of a kernel's file system has no effect and is dropped"},
	{"mounts[].options[]", normalised, "", "those that hold, sorted; all are in the defaults; the size of /dev/shm is a limit"},
	{"mounts[].uidMappings", asIs, mapping, "*mounts*"},
	{"mounts[].gidMappings", asIs, mapping, "*mounts*"},
	{"hooks.prestart", asIs, hook, "*hooks*, with {id} for the container's id; docker's own hook is dropped, because its arguments have a process id"},
	{"hooks.createRuntime", asIs, hook, "likewise"},
	{"hooks.createContainer", asIs, hook, "likewise"},
	{"hooks.startContainer", asIs, hook, "likewise"},
	{"hooks.poststart", asIs, hook, "likewise"},
	{"hooks.poststop", asIs, hook, "likewise"},
	{"annotations{}", normalised, "", "*annotations*; podman's own are in the defaults; its time, its name, the path of *--cidfile* and ids of pods are dropped"},
	{"linux.uidMappings", asIs, mapping, asMember},
	{"linux.gidMappings", asIs, mapping, asMember},
	{"linux.sysctl{}", normalised, "", "*sysctls*; exact pairs of an engine's are in the defaults"},
	{"linux.resources.devices", normalised, "[].allow [].type [].major [].minor [].access", "*device_rules*, *all_devices*; an engine's own are in the defaults"},
	{"linux.resources.memory", limit, "limit reservation swap kernel kernelTCP swappiness disableOOMKiller useHierarchy checkBeforeUpdate", asLimit},
	{"linux.resources.cpu", limit, "shares quota burst period realtimeRuntime realtimePeriod cpus mems idle", asLimit},
	{"linux.resources.pids", limit, "limit", asLimit},
	{"linux.resources.blockIO", limit, "weight leafWeight weightDevice[].major weightDevice[].minor weightDevice[].weight weightDevice[].leafWeight " +
		"throttleReadBpsDevice[].major throttleReadBpsDevice[].minor throttleReadBpsDevice[].rate " +
		"throttleWriteBpsDevice[].major throttleWriteBpsDevice[].minor throttleWriteBpsDevice[].rate " +
		"throttleReadIOPSDevice[].major throttleReadIOPSDevice[].minor throttleReadIOPSDevice[].rate " +
		"throttleWriteIOPSDevice[].major throttleWriteIOPSDevice[].minor throttleWriteIOPSDevice[].rate", asLimit},
	{"linux.resources.hugepageLimits", limit, "[].pageSize [].limit", asLimit},
	{"linux.resources.network", asIs, "classID priorities[].name priorities[].priority", asMember},
	{"linux.resources.rdma", limit, "{}.hcaHandles {}.hcaObjects", asLimit},
	{"linux.resources.unified", asIs, "{}", asMember},
	{"linux.cgroupsPath", dropped, "", "made of the id"},
	{"linux.namespaces[].type", normalised, "", "*namespaces*; a type that the specification does not know is in *unknown*"},
	{"linux.namespaces[].path", dropped, "", "has process ids and random names: *namespaces* says whether there is one; judged at the start"},
	{"linux.devices", asSet, "[].path [].type [].major [].minor [].fileMode [].uid [].gid", "*devices*; of the mode the bits 07777; none with *all_devices*"},
	{"linux.netDevices", asIs, "{}.name", asMember},
	{"linux.seccomp", normalised, "defaultAction defaultErrnoRet architectures[] flags[] listenerPath listenerMetadata " +
		"syscalls[].names[] syscalls[].action syscalls[].errnoRet syscalls[].args[].index syscalls[].args[].value syscalls[].args[].valueTwo syscalls[].args[].op",
		"a digest in the defaults; *seccomp* is \"unconfined\" if there is none"},
	{"linux.rootfsPropagation", asIs, "", asMember},
	{"linux.maskedPaths[]", normalised, "", "*unmasked*: those missing that every engine masks; all in the defaults, those of single CPUs as cpu*"},
	{"linux.readonlyPaths[]", normalised, "", "*writable_paths*, likewise"},
	{"linux.mountLabel", normalised, "", "*members*: the type, unless an engine's own"},
	{"linux.intelRdt", limit, "closID schemata[] l3CacheSchema memBwSchema enableMonitoring", asLimit},
	{"linux.memoryPolicy", limit, "mode nodes flags[]", asLimit},
	{"linux.personality", asIs, "domain flags[]", asMember},
	{"linux.timeOffsets", asIs, "{}.secs {}.nanosecs", asMember},
}

// leaves are the paths of all plain values that the specification knows, with their
// rows.
func leaves() iter.Seq2[string, *row] {
	return func(yield func(string, *row) bool) {
		for i := range fates {
			r := &fates[i]
			if r.holds == "" && !yield(r.path, r) {
				return
			}
			for below := range strings.FieldsSeq(r.holds) {
				path := r.path + "." + below
				if below[0] == '[' || below[0] == '{' {
					path = r.path + below
				}
				if !yield(path, r) {
					return
				}
			}
		}
	}
}

// shape is what may stand at one place of the specification.
type shape struct {
	row     *row              // of this very place
	plain   bool              // a value that is neither object nor array
	members map[string]*shape // of an object
	element *shape            // of an array
	value   *shape            // of an object whose names are data
}

var specification = shapeOf()

func shapeOf() *shape {
	top := &shape{}
	for path, r := range leaves() {
		at := top
		rest := path
		for rest != "" {
			at, rest = at.descend(rest)
			if strings.TrimSuffix(path, rest) == r.path {
				at.row = r
			}
		}
		at.plain = true
	}
	return top
}

// descend goes one step down a path, making what it finds missing.
func (s *shape) descend(path string) (*shape, string) {
	for mark, next := range map[string]**shape{"[]": &s.element, "{}": &s.value} {
		if rest, ok := strings.CutPrefix(path, mark); ok {
			if *next == nil {
				*next = &shape{}
			}
			return *next, rest
		}
	}
	path = strings.TrimPrefix(path, ".")
	name, rest := path, ""
	if end := strings.IndexAny(path, ".[{"); end >= 0 {
		name, rest = path[:end], path[end:]
	}
	if s.members == nil {
		s.members = map[string]*shape{}
	}
	if s.members[name] == nil {
		s.members[name] = &shape{}
	}
	return s.members[name], rest
}
