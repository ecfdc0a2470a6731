package api

import (
	"testing"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/containers"
	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/peer"
	"github.com/cima-project/cima/rpc"
)

// A container of no pod is met by no pattern, not even by "*": a rule that grants to all
// pods grants to nobody else.
func TestPodPatterns(t *testing.T) {
	shop := launch.Pod{Namespace: "shop", Name: "web-7d9f", UID: "u", Container: "app"}
	for _, tt := range []struct {
		namespace, pod string
		of             launch.Pod
		want           bool
	}{
		{"shop", "", shop, true},
		{"sh*", "web-*", shop, true},
		{"*", "*", shop, true},
		{"", "web-????", shop, true},
		{"shop", "db-*", shop, false},
		{"sho", "", shop, false},
		{"kube-system", "web-*", shop, false},
		{"*", "", launch.Pod{}, false},
		{"", "*", launch.Pod{}, false},
		{"*", "", launch.Pod{Name: "web"}, false},
		{"", "", launch.Pod{}, true},
	} {
		rule := config.AccessRule{Namespace: tt.namespace, Pod: tt.pod}
		if got := matches(rule, &subject{}, &containers.Facts{Pod: tt.of}); got != tt.want {
			t.Errorf("%+v matches %+v: %t", rule, tt.of, got)
		}
		if got := matches(rule, &subject{unit: "a.service"}, nil); got && tt.namespace+tt.pod != "" {
			t.Errorf("%+v matches a process of the host", rule)
		}
	}
}

// What a user's engine says of a container is the user's word: it grants nothing, and it is
// enough for a denial.
func TestUsersWordGrantsNothing(t *testing.T) {
	const method = rpc.MethodExtendMeasurement
	facts := &containers.Facts{Image: launch.Image{Reference: "registry.example/web/a:1"}, Labels: map[string]launch.Text{"may": "extend"}}
	for name, tt := range map[string]struct {
		rules      []config.AccessRule
		root, user bool // whose containers may
	}{
		"no rule":     {nil, false, false},
		"an image":    {[]config.AccessRule{{Image: "registry.example/web/*", Allow: []string{method}}}, true, false},
		"any image":   {[]config.AccessRule{{Image: "*", Allow: []string{method}}}, true, false},
		"a label":     {[]config.AccessRule{{Label: "may=extend", Allow: []string{method}}}, true, false},
		"all callers": {[]config.AccessRule{{Allow: []string{method}}}, true, true},
		"but denied":  {[]config.AccessRule{{Allow: []string{method}}, {Image: "*", Deny: []string{method}}}, false, false},
	} {
		f := newFixture(t, func(c *config.Config) { c.Access = tt.rules })
		f.api.Containers = knownFacts{f.containers, facts}
		for uid, want := range map[uint32]bool{0: tt.root, 1000: tt.user} {
			i := f.containers.Use(peer.Container{ID: "one", Name: "one", UID: uid}, 1, 0)
			err := f.api.allowed(t.Context(), &subject{owner: i.Owner, instance: i}, method, attest)
			if (err == nil) != want {
				t.Errorf("%s: a container of uid %d: %v", name, uid, err)
			}
			if err != nil {
				wantCode(t, err, rpc.CodeDenied)
			}
		}
	}
}

func TestImagePatterns(t *testing.T) {
	for _, tt := range []struct {
		pattern, reference string
		want               bool
	}{
		{"docker.io/library/app:1", "docker.io/library/app:1", true},
		{"docker.io/library/app:*", "docker.io/library/app:1", true},
		{"docker.io/*", "docker.io/library/app:1", true},
		{"*", "docker.io/library/app:1", true},
		{"docker.io/library/app", "docker.io/library/app:1", false},
		{"evil.io/*", "docker.io/library/app:1", false},
		{"*", "", false},
	} {
		if got := imageMatches(tt.pattern, tt.reference); got != tt.want {
			t.Errorf("%q matches %q: %v", tt.pattern, tt.reference, got)
		}
	}
}
