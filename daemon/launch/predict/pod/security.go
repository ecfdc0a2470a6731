package pod

import (
	"fmt"
	"strconv"

	"github.com/cima-project/cima/daemon/launch/predict/strictyaml"
)

// security is a securityContext, of a pod or of a container. What is not given is nil.
type security struct {
	user, group            *string
	seccomp, apparmor      *string // type; type, or profile after "Localhost:"
	seType                 *string
	privileged, escalation *bool
	readOnly               bool
	unmasked               bool
	add, drop              []string
}

// readSecurity reads what pods and containers have both, and leaves the rest.
func readSecurity(o *strictyaml.Object) (s security, err error) {
	number := func(name string, into **string) {
		if v := o.Take(name); err == nil && !v.IsNull() {
			var text string
			if text, err = v.Text(); err == nil {
				if _, wrong := strconv.ParseUint(text, 10, 31); wrong != nil {
					err = v.Errorf("%s must be a number below 2^31", name)
				}
			}
			*into = &text
		}
	}
	number("runAsUser", &s.user)
	number("runAsGroup", &s.group)
	for name, into := range map[string]**string{"seccompProfile": &s.seccomp, "appArmorProfile": &s.apparmor} {
		if v := o.Take(name); err == nil && !v.IsNull() {
			*into, err = profile(v)
		}
	}
	if v := o.Take("seLinuxOptions"); err == nil && !v.IsNull() {
		var of *strictyaml.Object
		if of, err = v.Object(); err == nil {
			if t := of.Take("type"); !t.IsNull() {
				var text string
				text, err = t.Text()
				s.seType = &text
			}
		}
	}
	o.Take("runAsNonRoot")
	o.Take("windowsOptions")
	return s, err
}

func profile(v *strictyaml.Value) (*string, error) {
	o, err := v.Object()
	if err != nil {
		return nil, err
	}
	kind, err := o.Take("type").Text()
	if err != nil {
		return nil, err
	}
	if local := o.Take("localhostProfile"); !local.IsNull() {
		name, err := local.Text()
		if err != nil {
			return nil, err
		}
		kind += ":" + name
	}
	return &kind, o.End()
}

func (p *Pod) takeSecurity(v *strictyaml.Value) error {
	o, err := v.Object()
	if err != nil {
		return err
	}
	if p.spec.security, err = readSecurity(o); err != nil {
		return err
	}
	if p.spec.groups, err = o.Take("supplementalGroups").Texts(); err != nil {
		return err
	}
	if g := o.Take("fsGroup"); !g.IsNull() {
		text, err := g.Text()
		if err != nil {
			return err
		}
		p.spec.groups = append(p.spec.groups, text)
	}
	if policy := o.Take("supplementalGroupsPolicy"); !policy.IsNull() {
		text, err := policy.Text()
		if err != nil {
			return err
		}
		p.spec.strictGroups = text == "Strict"
	}
	for _, idle := range []string{"sysctls", "fsGroupChangePolicy", "seLinuxChangePolicy"} { // sysctls are those of the pod's first container
		o.Take(idle)
	}
	return o.End()
}

func (r *reader) takeSecurity(v *strictyaml.Value) error {
	o, err := v.Object()
	if err != nil {
		return err
	}
	s, err := readSecurity(o)
	if err != nil {
		return err
	}
	for name, into := range map[string]**bool{"privileged": &s.privileged, "allowPrivilegeEscalation": &s.escalation} {
		if of := o.Take(name); !of.IsNull() {
			on, err := of.Bool()
			if err != nil {
				return err
			}
			*into = &on
		}
	}
	if of := o.Take("readOnlyRootFilesystem"); !of.IsNull() {
		if s.readOnly, err = of.Bool(); err != nil {
			return err
		}
	}
	if of := o.Take("procMount"); !of.IsNull() {
		text, err := of.Text()
		if err != nil {
			return err
		}
		s.unmasked = text == "Unmasked"
	}
	capabilities, err := o.Take("capabilities").Object()
	if err != nil {
		return err
	}
	if s.add, err = capabilities.Take("add").Texts(); err != nil {
		return err
	}
	if s.drop, err = capabilities.Take("drop").Texts(); err != nil {
		return err
	}
	if err := capabilities.End(); err != nil {
		return err
	}
	r.security = s
	return o.End()
}

// first is the container's, and else the pod's.
func first[T any](container, pod *T) *T {
	if container != nil {
		return container
	}
	return pod
}

// secure asks for what the pod and the container want both: the container's counts.
func (r *reader) secure() error {
	c, own, of := r.c, r.security, r.spec.security
	if user := first(own.user, of.user); user != nil {
		c.User = *user
	}
	if group := first(own.group, of.group); group != nil {
		c.Group = *group
	}
	c.Groups, c.NoImageGroups = r.spec.groups, r.spec.strictGroups
	c.Privileged = own.privileged != nil && *own.privileged
	c.Security.NoNewPrivileges = own.escalation != nil && !*own.escalation
	c.ReadOnly, c.CapAdd, c.CapDrop = own.readOnly, own.add, own.drop
	if own.unmasked {
		c.Security.Unmask = []string{"ALL"}
	}
	if kind := first(own.seType, of.seType); kind != nil {
		c.Security.Labels = []string{"type:" + *kind}
	}
	r.seccomp(first(own.seccomp, of.seccomp))
	return r.apparmor(first(own.apparmor, of.apparmor))
}

func (r *reader) seccomp(profile *string) {
	switch {
	case r.c.Privileged:
	case profile == nil:
		r.c.Doubt("asked.seccomp", "the kubelet's seccompDefault says whether a container without a profile has the runtime's (seccompProfile)", "it has none")
		r.c.Security.SeccompUnconfined = true
	default:
		r.c.Security.SeccompUnconfined = *profile == "Unconfined"
	}
}

// apparmor is the field, or the annotation that came before it.
func (r *reader) apparmor(profile *string) error {
	if profile == nil {
		old := map[string]string{"runtime/default": "RuntimeDefault", "unconfined": "Unconfined"}
		text, ok := r.spec.annotations["container.apparmor.security.beta.kubernetes.io/"+r.name]
		if !ok {
			return nil
		}
		if now, ok := old[text]; ok {
			text = now
		}
		profile = &text
	}
	switch kind, name := cut(*profile); kind {
	case "RuntimeDefault", "Unconfined": // containerd asks for none then
	case "Localhost", "localhost":
		r.c.Security.AppArmor = name
	default:
		return fmt.Errorf("unknown AppArmor profile %q", *profile)
	}
	return nil
}

// cut separates a type from the profile, which stands behind a colon or a slash.
func cut(s string) (kind, name string) {
	for i, c := range s {
		if c == ':' || c == '/' {
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}
