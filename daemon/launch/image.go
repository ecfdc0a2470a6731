package launch

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Why there is no image.
var (
	// ErrNotReady: the engine can't tell yet, or not in time. Ask again.
	ErrNotReady = errors.New("the engine can't tell the image yet")

	// ErrNoEngine: there is nobody to ask. It stays so.
	ErrNoEngine = errors.New("no engine can tell the image")
)

// Image finds out which image a container was made of: docker says it by its
// API; podman's and cri-o's storage files have it, and only where they don't
// is podman's API asked; containerd under a kubelet leaves the reference in
// annotations. Errors are ErrNotReady, ErrNoEngine, or what was wrong with
// the answer.
//
// Never call it while the gate holds a runtime: the engine would wait for us.
func (s *Store) Image(ctx context.Context, r Record) (Image, error) {
	switch r.Runtime {
	case "docker":
		return s.ask(ctx, r)
	case "podman", "cri-o":
		image, err := s.stored(ctx, r)
		if err == nil || r.Runtime == "cri-o" || r.UID != 0 {
			return image, err
		}
		if asked, err := s.ask(ctx, r); err == nil {
			return asked, nil
		}
		return image, err
	}
	if r.Pod.Image != "" {
		return Image{Reference: reference(r.Pod.Image)}, nil
	}
	return Image{}, fmt.Errorf("%w: %s keeps it in its own database", ErrNoEngine, r.Runtime)
}

// reference writes an image's name in full, as docker reads it
// (github.com/distribution/reference): registry/name:tag, docker.io and
// library/ by default, tag latest unless a digest is there. Empty for an id.
func reference(name string) string {
	name = strings.TrimPrefix(name, "docker://")
	if name == "" || isID(name) || isID(strings.TrimPrefix(name, "sha256:")) {
		return ""
	}
	name, digest, hasDigest := strings.Cut(name, "@")
	first, rest, ok := strings.Cut(name, "/")
	switch {
	case !ok:
		name = "docker.io/library/" + name
	case first == "index.docker.io":
		first = "docker.io"
		fallthrough
	case first == "docker.io":
		if !strings.Contains(rest, "/") {
			rest = "library/" + rest
		}
		name = first + "/" + rest
	case first != "localhost" && !strings.ContainsAny(first, ".:") && strings.ToLower(first) == first:
		name = "docker.io/" + name
	}
	if hasDigest {
		return name + "@" + digest
	}
	if !strings.Contains(name[strings.LastIndex(name, "/"):], ":") {
		name += ":latest"
	}
	return name
}
