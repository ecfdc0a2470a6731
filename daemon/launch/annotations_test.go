package launch

import "testing"

// An annotation changes the digest, whether a runtime acts on it or not.
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
		"com.example.any":                      false, "run.oci": false,
	} {
		c := config(t, "podman")
		c["annotations"].(map[string]any)[name] = "x"
		if digestOf(t, launchOf(t, c), Image{}) == base {
			t.Errorf("%s does not change the digest", name)
		}
		if _, ok := ActedOn(name); ok != counts {
			t.Errorf("%s: acted on: %t", name, ok)
		}
	}
}

// The file to which podman's client writes the id is no part of the container.
func TestCidfile(t *testing.T) {
	c := config(t, "podman")
	base := bothOf(t, launchOf(t, c))
	c["annotations"].(map[string]any)["io.podman.annotations.cid-file"] = "/tmp/x"
	if bothOf(t, launchOf(t, c)) != base {
		t.Error("it is in a digest")
	}
}

// Podman 5 tells systemd how to stop the container. What somebody chose is asked for.
func TestStopPropertiesOfPodman(t *testing.T) {
	base := digestOf(t, launchOf(t, config(t, "podman")), Image{})
	for name, values := range map[string][2]string{
		"org.systemd.property.KillSignal": {"15", "9"}, "org.systemd.property.TimeoutStopUSec": {"uint64 10000000", "uint64 1"},
	} {
		for i, value := range values {
			c := config(t, "podman")
			c["annotations"].(map[string]any)[name] = value
			if own := digestOf(t, launchOf(t, c), Image{}) == base; own != (i == 0) {
				t.Errorf("%s=%s: the engine's own: %t", name, value, own)
			}
		}
	}
}
