package pod

import (
	"fmt"
	"path"
	"strings"

	"github.com/cima-project/cima/daemon/launch/predict"
	"github.com/cima-project/cima/daemon/launch/predict/strictyaml"
)

// podFields are those of a pod's spec. A field whose function is nil changes nothing
// that its containers ask for.
func podFields() map[string]func(*Pod, *strictyaml.Value) error {
	truth := func(at func(*podSpec) *bool) func(*Pod, *strictyaml.Value) error {
		return func(p *Pod, v *strictyaml.Value) (err error) {
			*at(&p.spec), err = v.Bool()
			return err
		}
	}
	choice := func(at func(*podSpec) **bool) func(*Pod, *strictyaml.Value) error {
		return func(p *Pod, v *strictyaml.Value) error {
			on, err := v.Bool()
			*at(&p.spec) = &on
			return err
		}
	}
	out := map[string]func(*Pod, *strictyaml.Value) error{
		"containers": (*Pod).takeContainers, "initContainers": (*Pod).takeContainers, "ephemeralContainers": (*Pod).takeContainers,
		"volumes": (*Pod).takeVolumes, "securityContext": (*Pod).takeSecurity,
		"hostNetwork":                  truth(func(s *podSpec) *bool { return &s.hostNetwork }),
		"hostPID":                      truth(func(s *podSpec) *bool { return &s.hostPID }),
		"hostIPC":                      truth(func(s *podSpec) *bool { return &s.hostIPC }),
		"shareProcessNamespace":        truth(func(s *podSpec) *bool { return &s.shareProcesses }),
		"automountServiceAccountToken": choice(func(s *podSpec) **bool { return &s.token }),
		"enableServiceLinks":           choice(func(s *podSpec) **bool { return &s.links }),
		"hostUsers": func(p *Pod, v *strictyaml.Value) error {
			on, err := v.Bool()
			if !on {
				p.doubt("asked.members", "hostUsers: the kubelet chooses the ids", "")
			}
			return err
		},
		"runtimeClassName": func(p *Pod, v *strictyaml.Value) error {
			name, err := v.Text()
			p.doubt("asked", "runtimeClassName "+name+": the class may add to the configuration", "it adds nothing")
			return err
		},
	}
	for _, name := range strings.Fields(`restartPolicy terminationGracePeriodSeconds activeDeadlineSeconds dnsPolicy nodeSelector
		serviceAccountName serviceAccount nodeName imagePullSecrets hostname subdomain affinity schedulerName tolerations
		hostAliases priorityClassName priority dnsConfig readinessGates preemptionPolicy overhead topologySpreadConstraints
		setHostnameAsFQDN os schedulingGates resourceClaims resources hostnameOverride`) {
		out[name] = nil
	}
	return out
}

func (p *Pod) doubt(fact, why, assumed string) {
	p.spec.unknown = append(p.spec.unknown, predict.Unknown{Fact: fact, Why: why, Assumed: assumed})
}

// containerFields are those of a container.
func containerFields() map[string]func(*reader, *strictyaml.Value) error {
	out := map[string]func(*reader, *strictyaml.Value) error{
		"image": func(r *reader, v *strictyaml.Value) (err error) {
			r.c.Image, err = v.Text()
			return err
		},
		"workingDir": func(r *reader, v *strictyaml.Value) (err error) {
			r.c.WorkingDirectory, err = v.Text()
			return err
		},
		"tty": func(r *reader, v *strictyaml.Value) (err error) {
			r.c.Terminal, err = v.Bool()
			return err
		},
		"command": func(r *reader, v *strictyaml.Value) error {
			list, err := r.words(v)
			if len(list) > 0 {
				r.c.Entrypoint = &list
			}
			return err
		},
		"args": func(r *reader, v *strictyaml.Value) (err error) {
			r.c.Command, err = r.words(v)
			return err
		},
		"env": (*reader).environment, "volumeMounts": (*reader).mounts, "securityContext": (*reader).takeSecurity, "resources": (*reader).resources,
		"envFrom": func(r *reader, v *strictyaml.Value) error {
			items, err := v.List()
			if len(items) > 0 {
				r.c.Doubt("asked.environment", "envFrom: the cluster has the names of the variables", "")
			}
			return err
		},
		"volumeDevices": func(r *reader, v *strictyaml.Value) error {
			items, err := v.List()
			if len(items) > 0 {
				r.c.Doubt("asked.devices", "volumeDevices: the node has the numbers of the devices", "")
			}
			return err
		},
	}
	for _, name := range strings.Fields(`name ports resizePolicy restartPolicy restartPolicyRules livenessProbe readinessProbe startupProbe
		lifecycle terminationMessagePath terminationMessagePolicy imagePullPolicy stdin stdinOnce targetContainerName`) {
		out[name] = nil
	}
	return out
}

// words are a command or its arguments, with variables in them.
func (r *reader) words(v *strictyaml.Value) ([]string, error) {
	list, err := v.Texts()
	for i := range list {
		var hidden bool
		if list[i], hidden = r.expand(list[i]); hidden {
			r.c.Doubt("asked.arguments", fmt.Sprintf("%.60q has a variable whose value the cluster alone knows", list[i]), "")
		}
	}
	return list, err
}

// expand replaces $(NAME) by the container's variables, as the kubelet does: "$$" is
// "$", and what isn't known stays as it is.
func (r *reader) expand(s string) (out string, hidden bool) {
	for {
		before, rest, ok := strings.Cut(s, "$")
		out += before
		if !ok {
			return out, hidden
		}
		end := strings.IndexByte(rest, ')')
		switch {
		case strings.HasPrefix(rest, "$"):
			out, s = out+"$", rest[1:]
		case strings.HasPrefix(rest, "(") && end > 0:
			value, secret, known := r.variable(rest[1:end])
			if !known {
				value = "$" + rest[:end+1]
			}
			out, s, hidden = out+value, rest[end+1:], hidden || secret
		default:
			out, s = out+"$", rest
		}
	}
}

func (r *reader) variable(name string) (value string, hidden, known bool) {
	for _, v := range r.c.Environment {
		if v.Name == name {
			value, hidden, known = v.Value, v.Hidden, true
		}
	}
	if !known {
		for _, k := range kubernetesVariables {
			hidden = hidden || k == name
		}
		known = hidden
	}
	return value, hidden, known
}

// environment reads variables: a value, or where the cluster has it.
func (r *reader) environment(v *strictyaml.Value) error {
	items, err := v.List()
	for _, i := range items {
		o, err := i.Object()
		if err != nil {
			return err
		}
		set := predict.Variable{}
		if set.Name, err = o.Take("name").Text(); err != nil || set.Name == "" || strings.ContainsAny(set.Name, "=\x00") {
			return i.Errorf("a variable must have a name")
		}
		if value := o.Take("value"); !value.IsNull() {
			if set.Value, err = value.StringOnly(); err != nil {
				return fmt.Errorf("%s: %w", set.Name, err)
			}
			set.Value, set.Hidden = r.expand(set.Value)
		}
		if from := o.Take("valueFrom"); !from.IsNull() {
			set.Hidden = true
			if err := r.from(set.Name, from); err != nil {
				return err
			}
		}
		if err := o.End(); err != nil {
			return err
		}
		r.c.Environment = append(r.c.Environment, set)
	}
	return err
}

// from notes a variable that need not be there.
func (r *reader) from(name string, v *strictyaml.Value) error {
	o, err := v.Object()
	if err != nil {
		return err
	}
	for _, source := range []string{"configMapKeyRef", "secretKeyRef", "fileKeyRef"} {
		ref, err := o.Take(source).Object()
		if err != nil {
			return err
		}
		if optional := ref.Take("optional"); optional != nil {
			on, err := optional.Bool()
			if err != nil {
				return err
			}
			if on {
				r.c.Doubt("asked.environment "+name, "the cluster may not have it, since it is optional", "it is there")
			}
		}
	}
	o.Take("fieldRef")
	o.Take("resourceFieldRef")
	return o.End()
}

// resources are quantities, but for those that a plug-in of the node gives.
func (r *reader) resources(v *strictyaml.Value) error {
	o, err := v.Object()
	if err != nil {
		return err
	}
	for _, kind := range []string{"limits", "requests"} {
		of, err := o.Take(kind).Object()
		if err != nil {
			return err
		}
		for _, name := range of.Names() {
			if strings.Contains(name, "/") {
				r.c.Doubt("asked", name+": the node's device plug-in says which devices, mounts and variables there are", "")
			}
		}
	}
	if claims := o.Take("claims"); !claims.IsNull() {
		r.c.Doubt("asked", "claims: the driver says which devices, mounts and variables there are", "")
	}
	return o.End()
}

// mounts reads where volumes are mounted.
func (r *reader) mounts(v *strictyaml.Value) error {
	items, err := v.List()
	for n, i := range items {
		m, err := r.mount(i, n)
		if err != nil {
			return err
		}
		r.hasToken = r.hasToken || path.Clean(m.Destination) == tokenPlace
		if m.Kind != "" {
			r.c.Mounts = append(r.c.Mounts, m)
		}
	}
	return err
}

// propagations are the kubelet's names.
var propagations = map[string][]string{"": nil, "None": nil, "HostToContainer": {"rslave"}, "Bidirectional": {"rshared"}}

func (r *reader) mount(v *strictyaml.Value, n int) (m predict.Mount, err error) {
	o, err := v.Object()
	if err != nil {
		return m, err
	}
	text := make(map[string]string)
	for _, name := range []string{"name", "mountPath", "subPath", "subPathExpr", "mountPropagation", "recursiveReadOnly"} {
		if of := o.Take(name); !of.IsNull() {
			if text[name], err = of.Text(); err != nil {
				return m, err
			}
		}
	}
	m.Destination = text["mountPath"]
	if of := o.Take("readOnly"); !of.IsNull() {
		if m.ReadOnly, err = of.Bool(); err != nil {
			return m, err
		}
	}
	if err := o.End(); err != nil {
		return m, err
	}
	of, ok := r.volumes[text["name"]]
	options, known := propagations[text["mountPropagation"]]
	switch {
	case !ok:
		return m, v.Errorf("the pod has no volume %q", text["name"])
	case !known:
		return m, v.Errorf("unknown propagation %q", text["mountPropagation"])
	case !path.IsAbs(m.Destination):
		return m, v.Errorf("mountPath must be an absolute path, not %q", m.Destination)
	case of.unknown != "" || text["subPathExpr"] != "":
		r.c.Doubt("asked.mounts "+m.Destination, fmt.Sprintf("volume %s: %s", text["name"], of.unknown+text["subPathExpr"]), "")
		return predict.Mount{Destination: m.Destination}, nil
	}
	m.Options = options
	m.Kind, m.Source = of.kind, of.source
	m.ReadOnly = m.ReadOnly || of.readOnly
	if text["subPath"] != "" {
		m.Kind, m.Source = "pod", path.Join("volume-subpaths", text["name"], r.name, fmt.Sprint(n))
	}
	return m, nil
}
