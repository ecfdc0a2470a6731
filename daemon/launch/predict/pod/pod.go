// Package pod answers: what would the containers of this pod ask for?
//
// It reads a pod's manifest (Kubernetes' core/v1, at the time of 1.34), or a workload's
// that has a pod's template in it, and makes a predict.Container of each container, as
// a kubelet asks containerd for it. Each field has a fate; a field without one is an
// error.
package pod

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cima-project/cima/daemon/launch/predict"
	"github.com/cima-project/cima/daemon/launch/predict/strictyaml"
)

// Pod is a pod of a manifest.
type Pod struct {
	names      []string // of its containers, in their order
	containers map[string]*strictyaml.Value
	volumes    map[string]volume
	spec       podSpec
}

// podSpec is what all containers of a pod share.
type podSpec struct {
	hostNetwork, hostPID, hostIPC, shareProcesses bool
	token, links                                  *bool // automountServiceAccountToken, enableServiceLinks
	security                                      security
	groups                                        []string
	strictGroups                                  bool
	annotations                                   map[string]string
	unknown                                       []predict.Unknown
}

// templates are where a workload has its pod.
var templates = map[string][]string{
	"Pod": {}, "PodTemplate": {"template"}, "CronJob": {"spec", "jobTemplate", "spec", "template"},
	"Deployment": {"spec", "template"}, "DaemonSet": {"spec", "template"}, "StatefulSet": {"spec", "template"},
	"ReplicaSet": {"spec", "template"}, "ReplicationController": {"spec", "template"}, "Job": {"spec", "template"},
}

// Read reads the manifest of one pod. Documents of other kinds are left out.
func Read(text []byte) (*Pod, error) {
	documents, err := strictyaml.ReadAll(text)
	if err != nil {
		return nil, err
	}
	var found *strictyaml.Value
	var kinds []string
	for _, d := range documents {
		o, err := d.Object()
		if err != nil {
			return nil, err
		}
		kind, err := o.Take("kind").Text()
		if err != nil {
			return nil, fmt.Errorf("kind: %w", err)
		}
		kinds = append(kinds, kind)
		at, ok := templates[kind]
		if !ok {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("there are several pods, in %q: give one", kinds)
		}
		for found = d; len(at) > 0; at = at[1:] {
			o, err := found.Object()
			if err != nil {
				return nil, err
			}
			found = o.Take(at[0])
		}
	}
	if found.IsNull() {
		return nil, fmt.Errorf("no pod is among %q", kinds)
	}
	return read(found)
}

func read(v *strictyaml.Value) (*Pod, error) {
	o, err := v.Object()
	if err != nil {
		return nil, err
	}
	meta, err := o.Take("metadata").Object()
	if err != nil {
		return nil, err
	}
	p := &Pod{containers: make(map[string]*strictyaml.Value), volumes: make(map[string]volume)}
	if p.spec.annotations, err = texts(meta.Take("annotations")); err != nil {
		return nil, fmt.Errorf("metadata: annotations: %w", err)
	}
	spec, err := o.Take("spec").Object()
	if err != nil {
		return nil, err
	}
	table := podFields()
	for _, name := range spec.Names() {
		take, known := table[name]
		value := spec.Take(name)
		switch {
		case !known:
			err = value.Errorf("the field is not known")
		case take != nil && !value.IsNull():
			err = take(p, value)
		}
		if err != nil {
			return nil, fmt.Errorf("spec: %s: %w", name, err)
		}
	}
	if len(p.names) == 0 {
		return nil, errors.New("the pod has no containers")
	}
	return p, nil
}

// texts is a mapping of strings.
func texts(v *strictyaml.Value) (map[string]string, error) {
	o, err := v.Object()
	if err != nil {
		return nil, err
	}
	out := make(map[string]string)
	for _, name := range o.Names() {
		if out[name], err = o.Take(name).Text(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Containers are the names of the containers, in their order.
func (p *Pod) Containers() []string { return slices.Clone(p.names) }

// takeContainers notes the containers of one list.
func (p *Pod) takeContainers(v *strictyaml.Value) error {
	items, err := v.List()
	for _, i := range items {
		o, err := i.Object()
		if err != nil {
			return err
		}
		name, err := o.Take("name").Text()
		if err != nil {
			return i.Errorf("a container must have a name")
		}
		if p.containers[name] != nil {
			return i.Errorf("two containers have the name %q", name)
		}
		p.names = append(p.names, name)
		p.containers[name] = i
	}
	return err
}

// Container is what a container asks for.
func (p *Pod) Container(name string) (*predict.Container, error) {
	v := p.containers[name]
	if v == nil {
		return nil, fmt.Errorf("there is no container %q: there are %q", name, p.names)
	}
	r := &reader{Pod: p, name: name, c: &predict.Container{Engine: predict.Kubelet}}
	r.c.Unknown = slices.Clone(p.spec.unknown)
	o, err := v.Object()
	if err != nil {
		return nil, err
	}
	table := containerFields()
	for _, field := range inOrder(o.Names()) {
		take, known := table[field]
		value := o.Take(field)
		switch {
		case !known:
			err = value.Errorf("the field is not known")
		case take != nil && !value.IsNull():
			err = take(r, value)
		}
		if err != nil {
			return nil, fmt.Errorf("container %s: %s: %w", name, field, err)
		}
	}
	r.namespaces()
	r.serviceVariables()
	r.token()
	if err := r.secure(); err != nil {
		return nil, fmt.Errorf("container %s: %w", name, err)
	}
	return r.c, nil
}

// inOrder puts variables before what they are expanded in.
func inOrder(names []string) []string {
	if i := slices.Index(names, "env"); i >= 0 {
		names = append([]string{"env"}, slices.Delete(names, i, i+1)...)
	}
	return names
}

// reader is a container that is read.
type reader struct {
	*Pod
	name     string
	c        *predict.Container
	security security
	hasToken bool // something is mounted where the token would be
}

// namespaces are the pod's, but for those of processes and mounts.
func (r *reader) namespaces() {
	whose := func(host bool) string {
		if host {
			return "host"
		}
		return "container:pod"
	}
	r.c.SetNamespace("network", whose(r.spec.hostNetwork))
	r.c.SetNamespace("uts", whose(r.spec.hostNetwork))
	r.c.SetNamespace("ipc", whose(r.spec.hostIPC))
	switch {
	case r.spec.hostPID:
		r.c.SetNamespace("pid", "host")
	case r.spec.shareProcesses:
		r.c.SetNamespace("pid", "container:pod")
	}
}

// kubernetesVariables are those of the service "kubernetes", which each container gets.
var kubernetesVariables = strings.Fields(`KUBERNETES_SERVICE_HOST KUBERNETES_SERVICE_PORT KUBERNETES_SERVICE_PORT_HTTPS KUBERNETES_PORT
	KUBERNETES_PORT_443_TCP KUBERNETES_PORT_443_TCP_PROTO KUBERNETES_PORT_443_TCP_PORT KUBERNETES_PORT_443_TCP_ADDR`)

func (r *reader) serviceVariables() {
	var first []predict.Variable
	for _, name := range kubernetesVariables {
		first = append(first, predict.Variable{Name: name, Hidden: true})
	}
	r.c.Environment = append(first, r.c.Environment...)
	if r.spec.links == nil || *r.spec.links {
		r.c.Doubt("asked.environment *_SERVICE_*, *_PORT*", "the kubelet gives variables for each service of the namespace (enableServiceLinks: false)", "the namespace has no services")
	}
}

const tokenPlace = "/var/run/secrets/kubernetes.io/serviceaccount"

// token is the mount of the service account's token.
func (r *reader) token() {
	on := r.spec.token
	if r.hasToken || on != nil && !*on {
		return
	}
	if on == nil {
		r.c.Doubt("asked.mounts "+tokenPlace, "the service account says whether its token is mounted (automountServiceAccountToken)", "it is")
	}
	r.c.Mounts = append(r.c.Mounts, predict.Mount{Kind: "pod", Source: "volumes/kubernetes.io~projected/kube-api-access-00000", Destination: tokenPlace, ReadOnly: true})
}
