package launches

// Members that cima-evidence(7), LAUNCH, names. A test holds them against daemon/launch,
// which writes them, because no verifier links it.
var (
	// Members are those of a launch.
	Members = []string{"source", "cgroup_owner", "asked", "defaults", "limits", "image_config", "entrypoint",
		"pod", "asked_sha384", "defaults_sha384"}

	// AskedMembers are those of asked.
	AskedMembers = []string{"arguments", "working_directory", "terminal", "user", "environment", "capabilities",
		"no_new_privileges", "seccomp", "apparmor", "selinux", "namespaces", "mounts", "devices", "device_rules",
		"all_devices", "sysctls", "root_read_only", "unmasked", "writable_paths", "hooks", "annotations", "labels",
		"hostname", "domainname", "members", "unknown"}

	// DefaultsMembers are those of defaults.
	DefaultsMembers = []string{"capabilities", "seccomp", "umask", "apparmor", "selinux", "environment", "mounts",
		"sysctls", "device_rules", "masked_paths", "read_only_paths", "annotations", "namespaces", "hostname"}

	entrypointMembers = []string{"path", "sha384"}

	// PodMembers are those of a pod, in launch and claims.
	PodMembers = []string{"name", "namespace", "uid", "container"}

	// MountMembers are those of a mount in asked.
	MountMembers = []string{"destination", "type", "options", "source", "volume", "anonymous", "secret", "engine",
		"hidden", "uid_mappings", "gid_mappings"}

	// ImageMembers are those of an image event.
	ImageMembers = []string{"reference", "digest", "manifest", "layers", "absent"}
)

// earlierMembers are those of a launch in evidence profile v1, which no daemon writes any
// more. Its user and capabilities were always there.
var earlierMembers = []string{"source", "cgroup_owner", "arguments", "environment", "working_directory", "terminal",
	"user", "capabilities", "no_new_privileges", "seccomp", "apparmor", "selinux", "namespaces", "mounts",
	"all_devices", "devices", "device_rules", "sysctls", "root_read_only", "masked_paths", "read_only_paths",
	"hooks", "labels", "annotations", "entrypoint", "whole"}
