package api

import (
	"testing"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/containers"
	"github.com/cima-project/cima/daemon/launch"
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
