package launch

import "testing"

// An instruction to the runtime in an annotation changes the digest, as one in
// the specification does.
func TestAnnotationsForRuntimes(t *testing.T) {
	base := digestOf(t, launchOf(t, config(t, "podman")), Image{})
	for name, counts := range map[string]bool{
		"run.oci.seccomp_bpf_data":             true,
		"run.oci.seccomp.plugins":              true,
		"run.oci.seccomp.receiver":             true,
		"run.oci.hooks.stdout":                 true,
		"run.oci.hooks.stderr":                 true,
		"run.oci.systemd.force_cgroup_v1":      true,
		"run.oci.handler":                      true,
		"run.oci.of.tomorrow":                  true,
		"org.systemd.property.DeviceAllow":     true,
		"org.criu.config":                      true,
		"module.wasm.image/variant":            true,
		"run.oci.systemd.subgroup":             true,
		"run.oci.keep_original_groups":         true,
		"run.oci.mount_context_type":           true,
		"run.oci.timens_offset":                true,
		"org.systemd.property.KillSignal":      true,
		"org.systemd.property.TimeoutStopUSec": true,
		"com.docker.compose.project":           false, "run.oci": false,
	} {
		c := config(t, "podman")
		c["annotations"].(map[string]any)[name] = "x"
		if (digestOf(t, launchOf(t, c), Image{}) != base) != counts {
			t.Errorf("%s: changes the digest: %t", name, !counts)
		}
		if _, ok := ActedOn(name); ok != counts {
			t.Errorf("%s: acted on: %t", name, ok)
		}
	}
}
