package compose

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/cima-project/cima/daemon/launch/predict"
	"github.com/cima-project/cima/daemon/launch/predict/strictyaml"
)

func (s *service) tmpfs(v *strictyaml.Value) error {
	all, err := texts(v)
	for _, t := range all {
		s.c.AddTmpfs(t)
	}
	return err
}

// takeVolumes reads volumes in their short form, which is docker's, and in their long
// one.
func (s *service) takeVolumes(v *strictyaml.Value) error {
	items, err := v.List()
	for _, i := range items {
		var m predict.Mount
		if i.IsObject() {
			m, err = s.longVolume(i)
		} else {
			m, err = s.shortVolume(i)
		}
		if err != nil {
			return err
		}
		s.add(m)
	}
	return err
}

func (s *service) add(m predict.Mount) {
	if m.Kind != "" {
		s.c.Mounts = append(s.c.Mounts, m)
	}
}

var errRelative = errors.New("the source is relative to where the file lies")

func (s *service) shortVolume(v *strictyaml.Value) (predict.Mount, error) {
	text, err := text0(v)
	if err != nil {
		return predict.Mount{}, err
	}
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "~") {
		return predict.Mount{}, &hinted{v.Errorf("%.60q: %w", text, errRelative), configHint}
	}
	m, err := s.c.ParseVolume(text)
	if err != nil {
		return m, v.Errorf("%w", err)
	}
	return s.volumeNamed(m, v)
}

// volumeNamed gives a volume the name that docker knows it by.
func (s *service) volumeNamed(m predict.Mount, v *strictyaml.Value) (predict.Mount, error) {
	if m.Kind != "volume" || m.Source == "" {
		return m, nil
	}
	of, ok := s.volumes[m.Source]
	switch {
	case !ok:
		return m, v.Errorf("the volume %q must be among the file's volumes", m.Source)
	case of.driver != "" && of.driver != "local":
		s.c.Doubt("asked.mounts "+m.Destination, fmt.Sprintf("the driver %s alone knows where its volumes lie", of.driver), "")
		return predict.Mount{}, nil
	case of.name != "":
		m.Source = of.name
	case s.project == "":
		s.c.Doubt("asked.mounts "+m.Destination, fmt.Sprintf("the volume %s has the project's name before it, which the directory has where compose runs (--project states it)", m.Source), "")
		return predict.Mount{}, nil
	default:
		m.Source = s.project + "_" + m.Source
	}
	return m, nil
}

// longVolume reads a mapping.
func (s *service) longVolume(v *strictyaml.Value) (m predict.Mount, err error) {
	o, err := v.Object()
	if err != nil {
		return m, err
	}
	if m.Kind, err = text0(o.Take("type")); err != nil {
		return m, err
	}
	for name, into := range map[string]*string{"source": &m.Source, "target": &m.Destination} {
		if of := o.Take(name); !of.IsNull() {
			if *into, err = text0(of); err != nil {
				return m, err
			}
		}
	}
	if of := o.Take("read_only"); of != nil {
		if m.ReadOnly, err = of.Bool(); err != nil {
			return m, err
		}
	}
	o.Take("consistency")
	special, err := s.ofKind(&m, o)
	if err != nil {
		return m, err
	}
	dropExtensions(o)
	if err := o.End(); err != nil {
		return m, err
	}
	switch {
	case special != "":
		s.c.Doubt("asked.mounts "+m.Destination, fmt.Sprintf("type %s%s: docker makes the mount by directories of its own", m.Kind, special), "")
		return predict.Mount{}, nil
	case m.Kind == "bind" && !absolute(m.Source):
		return m, &hinted{v.Errorf("%.60q: %w", m.Source, errRelative), configHint}
	case m.Kind != "bind" && m.Kind != "volume" && m.Kind != "tmpfs":
		return m, v.Errorf("unknown type %q", m.Kind)
	}
	return s.volumeNamed(m, v)
}

// ofKind reads what is of one type of mount alone, and says what makes the mount
// docker's own knowledge.
func (s *service) ofKind(m *predict.Mount, o *strictyaml.Object) (special string, err error) {
	for _, kind := range []string{"bind", "volume", "tmpfs", "image"} {
		of, err := o.Take(kind).Object()
		if err != nil {
			return "", err
		}
		if kind != m.Kind {
			continue // compose warns, and goes on
		}
		for _, idle := range []string{"create_host_path", "selinux", "nocopy", "labels"} {
			of.Take(idle)
		}
		for _, name := range of.Names() {
			value, err := text0(of.Take(name))
			if err != nil {
				return "", err
			}
			switch kind + "." + name {
			case "bind.propagation":
				m.Options = append(m.Options, value)
			case "bind.recursive":
				if value == "disabled" {
					m.Options = append(m.Options, "bind")
				}
			case "tmpfs.size":
				size, err := predict.TmpfsSize(value)
				if err != nil {
					return "", err
				}
				m.Options = append(m.Options, "size="+size)
			case "tmpfs.mode":
				mode, err := modeOf(value)
				if err != nil {
					return "", err
				}
				m.Options = append(m.Options, "mode="+mode)
			case "volume.subpath", "image.subpath":
				special = " with subpath"
			default:
				if !strings.HasPrefix(name, "x-") {
					return "", fmt.Errorf("%s: the key %q is not known", kind, name)
				}
			}
		}
	}
	if m.Kind == "image" || m.Kind == "cluster" || m.Kind == "npipe" {
		special += " "
	}
	return special, nil
}

// modeOf is a mode as docker writes it. Compose's is a number, whose decimal form YAML
// has; `docker compose config` prints it in quotes, in octal.
func modeOf(text string) (string, error) {
	base := 10
	if strings.HasPrefix(text, "0") {
		base = 8
	}
	n, err := strconv.ParseUint(text, base, 32)
	if err != nil {
		return "", fmt.Errorf("the mode %q must be a number", text)
	}
	return strconv.FormatUint(n, 8), nil
}

// reference is a secret or config that a service uses.
func (s *service) references(v *strictyaml.Value, all map[string]named, dir string) error {
	items, err := v.List()
	for _, i := range items {
		var source, target string
		if !i.IsObject() {
			source, err = text0(i)
		} else {
			source, target, err = longReference(i)
		}
		if err != nil {
			return err
		}
		of, ok := all[source]
		if target == "" {
			target = source
		}
		if !path.IsAbs(target) {
			target = path.Join(dir, target)
		}
		switch {
		case !ok:
			return i.Errorf("%q must be among those of the file", source)
		case of.external, of.driver != "":
			return i.Errorf("%q: compose has no external ones", source)
		case of.inline: // copied into the container: no mount
		case !absolute(of.file):
			return &hinted{i.Errorf("%q: %.60q: %w", source, of.file, errRelative), configHint}
		default:
			s.add(predict.Mount{Kind: "bind", Source: of.file, Destination: target, ReadOnly: true})
		}
	}
	return err
}

func longReference(v *strictyaml.Value) (source, target string, err error) {
	o, err := v.Object()
	if err != nil {
		return "", "", err
	}
	if source, err = text0(o.Take("source")); err != nil {
		return "", "", err
	}
	if t := o.Take("target"); !t.IsNull() {
		if target, err = text0(t); err != nil {
			return "", "", err
		}
	}
	for _, ignored := range []string{"uid", "gid", "mode"} { // compose ignores them, too
		o.Take(ignored)
	}
	dropExtensions(o)
	return source, target, o.End()
}

func (s *service) takeSecrets(v *strictyaml.Value) error {
	return s.references(v, s.secrets, "/run/secrets")
}

func (s *service) takeConfigs(v *strictyaml.Value) error { return s.references(v, s.configs, "/") }

// devices are HOST[:CONTAINER][:ACCESS], names by CDI, or mappings.
func (s *service) devices(v *strictyaml.Value) error {
	items, err := v.List()
	for _, i := range items {
		var text string
		if i.IsObject() {
			text, err = longDevice(i)
		} else {
			text, err = text0(i)
		}
		if err != nil {
			return err
		}
		if err := s.c.AddDevice(text); err != nil {
			return i.Errorf("%w", err)
		}
	}
	return err
}

func longDevice(v *strictyaml.Value) (string, error) {
	o, err := v.Object()
	if err != nil {
		return "", err
	}
	parts := []string{"", "", ""}
	for n, name := range []string{"source", "target", "permissions"} {
		if of := o.Take(name); !of.IsNull() {
			if parts[n], err = text0(of); err != nil {
				return "", err
			}
		}
	}
	dropExtensions(o)
	if parts[1] == "" {
		parts[1] = parts[0]
	}
	if parts[2] == "" {
		parts[2] = "rwm"
	}
	if !strings.HasPrefix(parts[0], "/") {
		return parts[0], o.End()
	}
	return strings.Join(parts, ":"), o.End()
}

// deploy has quantities, and devices that a plug-in of docker's gives.
func (s *service) deploy(v *strictyaml.Value) error {
	for _, key := range []string{"resources", "reservations", "devices"} {
		o, err := v.Object()
		if err != nil {
			return err
		}
		v = o.Take(key)
	}
	if !v.IsNull() {
		s.c.Doubt("asked", "deploy.resources.reservations.devices: docker's plug-in on the host says which devices, mounts and hooks there are", "")
	}
	return nil
}
