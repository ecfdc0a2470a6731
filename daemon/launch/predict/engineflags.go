package predict

import (
	"encoding/json/v2"
	"fmt"
	"strconv"
	"strings"
)

// bothFlags are those that change what is asked for, and that docker and podman have
// both; k is how podman separates values of its lists.
func bothFlags(k kind) []option {
	return []option{
		flagBool("tty", "t", func(c *Container) *bool { return &c.Terminal }),
		flagBool("read-only", "", func(c *Container) *bool { return &c.ReadOnly }),
		flagBool("privileged", "", func(c *Container) *bool { return &c.Privileged }),
		flagBool("init", "", func(c *Container) *bool { return &c.Init }),
		flagText("user", "u", func(c *Container) *string { return &c.User }),
		flagText("workdir", "w", func(c *Container) *string { return &c.WorkingDirectory }),
		flagText("hostname", "h", func(c *Container) *string { return &c.Hostname }),
		flagList("cap-add", "", k, func(c *Container) *[]string { return &c.CapAdd }),
		flagList("cap-drop", "", k, func(c *Container) *[]string { return &c.CapDrop }),
		flagEach("group-add", "", k, (*reader).group),
		flagList("device-cgroup-rule", "", k, func(c *Container) *[]string { return &c.DeviceRules }),
		flagMap("sysctl", k, func(c *Container) *map[string]string { return &c.Sysctls }),
		flagEach("env", "e", single, (*reader).variable),
		flagEach("label", "l", single, (*reader).label),
		flagEach("label-file", "", single, (*reader).labelFile),
		flagEach("security-opt", "", single, (*reader).security),
		flagEach("device", "", single, (*reader).device),
		flagEach("volume", "v", single, (*reader).volume),
		flagEach("mount", "", single, (*reader).mount),
		flagEach("tmpfs", "", single, (*reader).tmpfs),
		flagUnknown("volumes-from", single, "asked.mounts", "the other container's mounts are its engine's knowledge"),
		flagUnknown("gpus", single, "asked", "the engine's plug-in on the host says which devices, mounts and hooks there are"),
		namespaceFlag("pid", "pid"), namespaceFlag("ipc", "ipc"), namespaceFlag("uts", "uts"), namespaceFlag("network", "network"), namespaceFlag("net", "network"),
		flagEach("userns", "", single, (*reader).userns),
	}
}

func dockerFlags() []option {
	return append(bothFlags(single),
		flagText("domainname", "", func(c *Container) *string { return &c.Domainname }),
		flagMap("annotation", single, func(c *Container) *map[string]string { return &c.Annotations }),
		flagEach("env-file", "", single, (*reader).envFile),
		flagEach("entrypoint", "", single, func(r *reader, s string) error {
			list := []string{}
			if s != "" {
				list = append(list, s)
			}
			r.c.Entrypoint = &list
			return nil
		}),
		flagEach("volume-driver", "", single, func(r *reader, s string) error {
			if s != "local" {
				r.c.Doubt("asked.mounts", "--volume-driver "+s+": the driver alone knows where its volumes lie", "")
			}
			return nil
		}),
		flagUnknown("link", single, "asked.environment", "docker gives variables of the other container's"),
		flagUnknown("use-api-socket", boolean, "asked.mounts", "the client finds the socket and its credentials on the host"),
	)
}

func podmanFlags() []option {
	return append(bothFlags(commas),
		flagEach("annotation", "", single, (*reader).podmanAnnotation),
		flagEach("env-file", "", commas, (*reader).envFile),
		flagEach("entrypoint", "", single, (*reader).podmanEntrypoint),
		flagList("unsetenv", "", single, func(c *Container) *[]string { return &c.Unset }),
		flagBool("unsetenv-all", "", func(c *Container) *bool { return &c.UnsetAll }),
		flagBool("read-only-tmpfs", "", func(c *Container) *bool { return &c.ReadOnlyTmpfs }),
		flagText("personality", "", func(c *Container) *string { return &c.Personality }),
		flagMap("cgroup-conf", commas, func(c *Container) *map[string]string { return &c.Unified }),
		flagEach("umask", "", single, func(r *reader, s string) error {
			v, err := strconv.ParseUint(s, 8, 12)
			if err != nil {
				return fmt.Errorf("a umask %q must be octal, such as 0022", s)
			}
			umask := uint32(v)
			r.c.Umask = &umask
			return nil
		}),
		flagEach("image-volume", "", single, func(r *reader, s string) error {
			modes := map[string]string{"bind": "", "anonymous": "", "tmpfs": "tmpfs", "ignore": "ignore"}
			mode, ok := modes[s]
			if !ok {
				return fmt.Errorf("%q must be anonymous, tmpfs or ignore", s)
			}
			r.c.ImageVolumes = mode
			return nil
		}),
		flagEach("systemd", "", single, func(r *reader, s string) error {
			r.c.noSystemd = s == "false"
			if s == "always" {
				r.c.Doubt("asked.mounts", "--systemd always: what podman mounts is by the host's version of cgroups", "")
			}
			return nil
		}),
		flagEach("uidmap", "", commas, func(r *reader, s string) error { return r.mapping(&r.c.uidMap, s) }),
		flagEach("gidmap", "", commas, func(r *reader, s string) error { return r.mapping(&r.c.gidMap, s) }),
		flagUnknown("subuidname", single, "asked.members", "the host's /etc/subuid says which ids"),
		flagUnknown("subgidname", single, "asked.members", "the host's /etc/subgid says which ids"),
		flagUnknown("env-host", boolean, "asked.environment", "the variables are the host's"),
		flagUnknown("env-merge", single, "asked.environment", "podman expands it"),
		flagUnknown("secret", single, "asked", "whether the secret becomes a mount or a variable, and its options, podman decides"),
		flagUnknown("pod", single, "asked.namespaces", "the pod says which namespaces are shared"),
		flagUnknown("init-ctr", single, "asked.namespaces", "the pod says which namespaces are shared"),
		flagUnknown("init-path", single, "asked.mounts", "a path of the host's"),
		flagUnknown("rootfs", boolean, "image", "a root file system of the host's, and no image"),
		flagUnknown("chrootdirs", single, "asked.mounts", "podman mounts its own files below it"),
	)
}

// podmanGlobals are global flags that change what is asked for.
func podmanGlobals() []option {
	return []option{
		flagUnknown("hooks-dir", single, "asked.hooks", "the hooks are the host's"),
		flagUnknown("module", single, "asked", "a configuration of the host's"),
	}
}

// podmanAnnotation is NAME=VALUE.
func (r *reader) podmanAnnotation(s string) error {
	if strings.Contains(s, ",") {
		r.c.Doubt("asked.annotations", fmt.Sprintf("--annotation %s: podman 4 takes what follows a comma as another annotation, podman 5 does not", s), "")
	}
	name, value, ok := strings.Cut(s, "=")
	if !ok {
		return fmt.Errorf("%q must be NAME=VALUE", s)
	}
	if r.c.Annotations == nil {
		r.c.Annotations = make(map[string]string)
	}
	r.c.Annotations[name] = value
	return nil
}

// podmanEntrypoint is a program, or a JSON array of a program and its arguments.
func (r *reader) podmanEntrypoint(s string) error {
	list := []string{}
	if s != "" && json.Unmarshal([]byte(s), &list) != nil {
		list = []string{s}
	}
	r.c.Entrypoint = &list
	return nil
}

func (r *reader) mapping(into *[]idRange, s string) error {
	var n [3]uint64
	parts := strings.Split(s, ":")
	ok := len(parts) == 3
	for i := 0; ok && i < 3; i++ {
		var err error
		n[i], err = strconv.ParseUint(parts[i], 10, 32)
		ok = err == nil
	}
	if !ok {
		r.c.Doubt("asked.members", fmt.Sprintf("the mapping %s: podman computes it from the host's ranges", s), "")
		return nil
	}
	*into = append(*into, idRange{uint32(n[0]), uint32(n[1]), uint32(n[2])})
	return nil
}

func (r *reader) group(s string) error {
	if s == "keep-groups" && r.c.Engine == Podman {
		if r.c.Annotations == nil {
			r.c.Annotations = make(map[string]string)
		}
		r.c.Annotations["run.oci.keep_original_groups"] = "1"
		return nil
	}
	r.c.Groups = append(r.c.Groups, s)
	return nil
}

// namespaceFlag is a flag that says whose namespace it is.
func namespaceFlag(name, kind string) option {
	return flagEach(name, "", single, func(r *reader, s string) error {
		mode := s
		switch {
		case strings.HasPrefix(s, "container:"), strings.HasPrefix(s, "ns:"), s == "host", s == "none":
		case s == "", s == "private", s == "shareable":
			mode = ""
		case kind == "network":
			mode = "" // a network's name and its options
		default:
			return fmt.Errorf("--%s %q must be host, private or container:NAME", name, s)
		}
		if kind != "ipc" && mode == "none" {
			mode = "" // a namespace of its own without an interface
		}
		r.c.SetNamespace(kind, mode)
		return nil
	})
}

func (r *reader) userns(s string) error {
	if s != "" && s != "host" {
		r.c.Doubt("asked.members", "--userns "+s+": the engine chooses the ids", "")
		r.c.SetNamespace("user", "")
	}
	return nil
}
