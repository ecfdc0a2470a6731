package predict

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/cima-project/cima/daemon/launch"
)

// allCapabilities are those of Linux from 5.9 on (capabilities(7)).
var allCapabilities = strings.Fields(`
	CAP_AUDIT_CONTROL CAP_AUDIT_READ CAP_AUDIT_WRITE CAP_BLOCK_SUSPEND CAP_BPF CAP_CHECKPOINT_RESTORE CAP_CHOWN
	CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_IPC_LOCK CAP_IPC_OWNER CAP_KILL CAP_LEASE
	CAP_LINUX_IMMUTABLE CAP_MAC_ADMIN CAP_MAC_OVERRIDE CAP_MKNOD CAP_NET_ADMIN CAP_NET_BIND_SERVICE CAP_NET_BROADCAST
	CAP_NET_RAW CAP_PERFMON CAP_SETFCAP CAP_SETGID CAP_SETPCAP CAP_SETUID CAP_SYSLOG CAP_SYS_ADMIN CAP_SYS_BOOT
	CAP_SYS_CHROOT CAP_SYS_MODULE CAP_SYS_NICE CAP_SYS_PACCT CAP_SYS_PTRACE CAP_SYS_RAWIO CAP_SYS_RESOURCE CAP_SYS_TIME
	CAP_SYS_TTY_CONFIG CAP_WAKE_ALARM`)

// capabilityNames gives names their one spelling. "ALL" stays.
func capabilityNames(names []string) ([]string, error) {
	var out []string
	for _, n := range names {
		n = strings.ToUpper(strings.TrimSpace(n))
		if n != "ALL" && n != "CAP_ALL" {
			n = "CAP_" + strings.TrimPrefix(n, "CAP_")
			if !slices.Contains(allCapabilities, n) {
				return nil, fmt.Errorf("no capability has the name %q", n)
			}
			out = append(out, n)
			continue
		}
		out = append(out, "ALL")
	}
	return out, nil
}

// capabilities are the sets, as docker and podman compute them.
func (b *builder) capabilities(user bool) (object, error) {
	add, err := capabilityNames(b.c.CapAdd)
	if err != nil {
		return nil, err
	}
	drop, err := capabilityNames(b.c.CapDrop)
	if err != nil {
		return nil, err
	}
	const label = "io.containers.capabilities"
	_, byImage := b.image.Config.Labels[label]
	_, byLine := b.c.Labels[label]
	if b.c.Engine == Podman && !b.c.Privileged && (byImage || byLine) {
		b.doubt("asked.capabilities", "podman narrows the capabilities by the label "+label+", unless the line asks for more", "")
	}
	base := launch.DockerCapabilities()
	if b.c.Privileged || slices.Contains(add, "ALL") {
		b.doubt("asked.capabilities", "the engine's version and the kernel say which capabilities \"all\" are", "the 41 of Linux 5.9")
	}
	switch {
	case b.c.Privileged:
		base, add, drop = allCapabilities, nil, nil
	case slices.Contains(add, "ALL"):
		base, add = allCapabilities, nil
	case slices.Contains(drop, "ALL"):
		base = nil
	}
	var bounding []string
	for _, n := range base {
		if !slices.Contains(drop, n) {
			bounding = append(bounding, n)
		}
	}
	bounding = append(bounding, add...)
	sets := object{"bounding": bounding}
	if b.c.Engine == Podman && user && len(b.c.CapAdd) > 0 {
		if add == nil {
			add = bounding
		}
		sets["ambient"], sets["inheritable"] = add, add
	}
	return sets, nil
}

// paths are those that stay masked and read-only.
func (b *builder) paths(linux object) {
	s := b.c.Security
	if b.c.Privileged || slices.Contains(s.Unmask, "ALL") {
		return
	}
	open := func(p string) bool {
		return slices.ContainsFunc(s.Unmask, func(u string) bool {
			ok, err := path.Match(u, p)
			return err == nil && ok
		})
	}
	linux["maskedPaths"] = slices.DeleteFunc(launch.MaskedPaths(), open)
	linux["readonlyPaths"] = slices.DeleteFunc(launch.ReadOnlyPaths(), open)
}

// modules fills in what the host's security modules are told.
func (b *builder) modules(process object) {
	s := b.c.Security
	profile := s.AppArmor
	if profile == "" && b.c.Privileged {
		profile = "unconfined"
	}
	if b.c.Engine == Podman && s.AppArmor == "" {
		profile = "" // podman gives a privileged container none
	}
	if profile != "" {
		switch b.host.LSM {
		case "apparmor":
			process["apparmorProfile"] = profile
		case "":
			b.doubt("asked.apparmor", fmt.Sprintf("%s asks for the profile %s only where the host has AppArmor", b.c.Engine, profile), "the host has no AppArmor (--lsm)")
		}
	}
	kind := ""
	for _, l := range s.Labels {
		if t, ok := strings.CutPrefix(l, "type:"); ok {
			kind = t
		}
	}
	switch {
	case kind == "":
	case b.host.LSM == "selinux":
		process["selinuxLabel"] = "system_u:system_r:" + kind + ":s0"
	case b.host.LSM == "":
		b.doubt("asked.selinux", fmt.Sprintf("%s asks for the type %s only where the host has SELinux", b.c.Engine, kind), "the host has no SELinux (--lsm)")
	}
}
