// Package predict answers: what would this line ask for?
//
// It reads a command line of docker's or podman's into a Container, which is what the
// line asks of the engine, and makes of a Container the OCI configuration that the
// engine would write, as far as it was asked for. The launch is then computed by
// daemon/launch, as the daemon does it. Packages below read compose files and pod
// manifests into Containers, and images.
//
// The package opens no file. What only the host or the engine knows becomes an
// Unknown, and is never guessed in silence.
package predict

import (
	"encoding/hex"
	"encoding/json/v2"
	"fmt"
	"maps"
	"slices"

	"github.com/cima-project/cima/daemon/launch"
)

// Engine is who makes the container.
type Engine string

// The engines. Compose runs docker; a Kubelet runs containerd or cri-o.
const (
	Docker  Engine = "docker"
	Podman  Engine = "podman"
	Kubelet Engine = "kubelet"
)

// Unknown is a fact that can't be known without the engine or its host.
type Unknown struct {
	Fact string `json:"fact"` // a member of asked, or what else it is about
	Why  string `json:"why"`

	// Assumed is what the prediction takes for true instead. Where it is empty, the
	// launch can't be predicted.
	Assumed string `json:"assumed,omitempty"`
}

// Host is what is known of the machine that will run the container. Its zero value is
// a machine of which nothing is known.
type Host struct {
	LSM     string          // "apparmor", "selinux", "none", or "" where it isn't known
	Devices map[string]Node // device nodes by path
}

// Image is what a prediction needs of an image.
type Image struct {
	Config   *launch.ImageConfig
	Manifest string // its digest; "" where the image is stored without one
	Users    *Users // nil where the image's files aren't known
}

// Prediction is the launch of a container that nobody has started.
type Prediction struct {
	Digest  string // launch digest; empty where an Unknown has no assumption
	Launch  launch.Launch
	Image   launch.Image // as the daemon will know it
	Unknown []Unknown
}

// Predict makes the launch of a container whose engine is root's.
func Predict(c *Container, image Image, host Host, rules launch.Rules) (*Prediction, error) {
	b := &builder{c: c, image: image, host: host}
	tree, err := b.config()
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(tree, json.Deterministic(true))
	if err != nil {
		return nil, err
	}
	p := &Prediction{Image: launch.Image{Digest: image.Config.Digest}}
	if p.Launch, err = b.launched(raw, rules); err != nil {
		return nil, fmt.Errorf("the configuration that %s would write: %w", c.Engine, err)
	}
	p.Unknown = b.unknown
	for _, u := range p.Unknown {
		if u.Assumed == "" {
			return p, nil
		}
	}
	digest, err := launch.Digest(p.Launch, p.Image)
	p.Digest = hex.EncodeToString(digest[:])
	return p, err
}

// launched is the launch that the daemon computes of a configuration, as far as it was
// asked for.
func (b *builder) launched(raw []byte, rules launch.Rules) (launch.Launch, error) {
	spec, err := launch.Parse(raw, runtimes[b.c.Engine])
	if err != nil {
		return launch.Launch{}, err
	}
	known := launch.Known{Image: b.image.Config, Home: launch.Text(b.home), Anonymous: isAnonymous}
	for kind, mode := range b.c.Namespaces {
		if mode == "host" {
			known.HostNamespaces = append(known.HostNamespaces, kind)
		}
	}
	l, err := launch.Normalise(spec, containerID, rules, known)
	if err != nil {
		return launch.Launch{}, err
	}
	l.Defaults, l.Limits = nil, nil // of another engine, of none
	b.hidden(l.Asked.Environment)
	if labels := b.labels(rules); len(labels) > 0 {
		l.Asked.Labels = labels
	}
	return l, nil
}

// hidden notes the variables whose values stand in the launch and aren't known here.
func (b *builder) hidden(shown []launch.Variable) {
	for _, v := range b.c.Environment {
		if v.Hidden && slices.ContainsFunc(shown, func(s launch.Variable) bool { return string(s.Name) == v.Name && (s.Value != nil || s.SHA384 != "") }) {
			b.doubt("asked.environment "+v.Name, "the launch shows its value, which the cluster alone knows", "")
		}
	}
}

// labels are those that the rules name, of the image and of the line. The daemon knows
// docker's alone; annotations come before them.
func (b *builder) labels(rules launch.Rules) map[string]launch.Text {
	if b.c.Engine != Docker {
		return nil
	}
	all := make(map[string]launch.Text)
	maps.Copy(all, b.image.Config.Labels)
	for name, value := range b.c.Labels {
		all[name] = launch.Text(value)
	}
	for name, value := range b.c.Annotations {
		all[name] = launch.Text(value)
	}
	return rules.Choose(all)
}

// runtimes are the names by which daemon/launch knows who wrote a configuration.
var runtimes = map[Engine]string{Docker: "docker", Podman: "podman", Kubelet: "containerd"}
