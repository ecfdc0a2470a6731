package engines

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/records"
)

// ErrNoEngine says that no engine can be asked for the image, now or later.
var ErrNoEngine = errors.New("no engine can tell the image")

// errNotReady says that the engine did not answer yet, or not in time.
var errNotReady = errors.New("the engine has not reported the image yet")

// Image returns the identity of the image that a container was made of. Docker's
// API is asked. Podman's and cri-o's storage files are read, and podman's API is
// asked only where they lack the image. Containerd's database is read; where it
// doesn't tell the image, the reference stands in a pod's annotations. After an error
// other than ErrNoEngine, ask again.
//
// Never call Image while the gate holds a runtime: the engine would wait for the
// daemon.
func (c *Client) Image(ctx context.Context, r records.Record) (launch.Image, error) {
	switch r.Runtime {
	case "docker":
		return c.ask(ctx, r)
	case "podman", "cri-o":
		image, err := c.stored(ctx, r)
		if err == nil || r.Runtime == "cri-o" || r.UID != 0 {
			return image, err
		}
		if asked, err := c.ask(ctx, r); err == nil {
			return asked, nil
		}
		return image, err
	}
	is, err := c.storage.Containerd(r.Bundle)
	name := reference(cmp.Or(r.Pod.Image, is.Reference))
	switch {
	case err == nil:
		return launch.Image{Reference: name, Digest: is.Image.Digest, Layers: is.Layers}, nil
	case r.Pod.Image != "":
		return launch.Image{Reference: name}, nil
	}
	return launch.Image{}, fmt.Errorf("%w: %s: %w", ErrNoEngine, r.Runtime, err)
}

// reference writes an image's name in full, as docker reads it
// (github.com/distribution/reference): registry/name:tag, with docker.io and
// library/ by default, and tag latest unless the name has a digest. It is empty
// for an id.
func reference(name string) string {
	name = strings.TrimPrefix(name, "docker://")
	if name == "" || launch.IsID(name) || launch.IsID(strings.TrimPrefix(name, "sha256:")) {
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
