package launch

import "testing"

// Docker's own hook counts for docker alone: a podman hook can be any program.
// So can the hooks of a configuration that names podman.
func TestHookLikeDockers(t *testing.T) {
	hook := set("hooks", map[string]any{"prestart": []any{map[string]any{
		"path": "/proc/4406/exe", "args": []any{"libnetwork-setkey", "-exec-root=/var/run/docker", "x", "x"},
	}}})
	for _, test := range []struct {
		bundle, runtime string
		hidden          bool
	}{{"docker", "docker", true}, {"docker", "", true}, {"podman", "podman", false}, {"podman", "", false}} {
		c := config(t, test.bundle)
		hook(c)
		spec, err := Parse(encode(t, c), test.runtime)
		if err != nil {
			t.Fatal(err)
		}
		l, err := Normalise(spec, spec.ID(), Rules{}, Known{})
		if err != nil || (len(l.Asked.Hooks) == 0) != test.hidden {
			t.Errorf("%s by %q: %v, %v", test.bundle, test.runtime, l.Asked.Hooks, err)
		}
	}
}
