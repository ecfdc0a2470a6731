package api

import "testing"

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
