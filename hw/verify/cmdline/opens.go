package cmdline

import (
	"slices"
	"strings"
)

// opening are keys by which whoever holds a console, a disk or the network of the guest
// gets in beside a covered root file system, or by which a protection is taken back.
var opening = []string{
	"rdinit", "rd.break", "rd.shell", "rescue", "emergency", "single", "s", "S", "1",
	"systemd.unit", "rd.systemd.unit", "systemd.run", "systemd.debug_shell", "rd.systemd.debug_shell",
	"systemd.default_debug_tty", "systemd.mask", "systemd.wants", "systemd.setenv",
	"systemd.set_credential", "systemd.set_credential_binary", "systemd.sysext", "systemd.confext",
	"ima_policy", "ima_template", "enforcing", "selinux", "apparmor", "security", "lsm", "lockdown", "module.sig_enforce",
	"loadpin.enforce", "initrdmem", "initrd_mem", "acpi_table", "acpi_rsdp", "kgdboc", "kgdb", "ds", "cloud_init",
	"netroot", "nfsroot", "rd.neednet", "bootconfig", "ignition.firstboot", "ignition.config.url", "ignition.platform.id",
	"ostree", "efivar_ssdt",
}

// closing are values with which such a word opens nothing.
var closing = map[string][]string{
	"enforcing":          {"1"},
	"selinux":            {"1"},
	"apparmor":           {"1"},
	"lockdown":           {"integrity", "confidentiality"},
	"module.sig_enforce": {"1", ""},
	"loadpin.enforce":    {"1"},
	"cloud_init":         {"disabled"},
	"rd.shell":           {"0"},
	"rd.neednet":         {"0"},
}

// Opens are the words of a line that open what it covers, sorted.
func (l *Line) Opens() (found []string) {
	for _, w := range l.words {
		if slices.Contains(opening, w.key) && !slices.Contains(closing[w.key], w.value) || strings.HasPrefix(w.key, "ignition.") || strings.HasPrefix(w.key, "coreos.") {
			found = append(found, w.key)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}
