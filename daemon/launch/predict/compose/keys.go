package compose

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/cima-project/cima/daemon/launch/predict"
	"github.com/cima-project/cima/daemon/launch/predict/strictyaml"
)

// take reads the value of a key. A key whose take is nil changes nothing that is asked
// for.
type take func(*service, *strictyaml.Value) error

// idle are the keys that change nothing, by what they are about.
var idle = []string{
	// when and how often it runs; its image's origin; its name
	"attach build container_name depends_on develop platform profiles pull_policy pull_refresh_after restart scale stop_grace_period stop_signal",
	// what compose and the engine do beside it
	"credential_spec healthcheck logging post_start pre_stop stdin_open",
	// networks, and the engine's own files
	"dns dns_opt dns_search expose external_links extra_hosts links mac_address networks ports",
	// quantities
	"blkio_config cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares cpus cpuset mem_limit mem_reservation mem_swappiness memswap_limit oom_kill_disable oom_score_adj pids_limit shm_size storage_opt ulimits",
	// where it runs: judged as power
	"cgroup cgroup_parent isolation runtime",
}

// keys are those of a service.
func keys() map[string]take {
	out := map[string]take{
		"image":        text(func(c *predict.Container) *string { return &c.Image }),
		"user":         text(func(c *predict.Container) *string { return &c.User }),
		"working_dir":  text(func(c *predict.Container) *string { return &c.WorkingDirectory }),
		"hostname":     text(func(c *predict.Container) *string { return &c.Hostname }),
		"domainname":   text(func(c *predict.Container) *string { return &c.Domainname }),
		"tty":          truth(func(c *predict.Container) *bool { return &c.Terminal }),
		"read_only":    truth(func(c *predict.Container) *bool { return &c.ReadOnly }),
		"privileged":   truth(func(c *predict.Container) *bool { return &c.Privileged }),
		"init":         truth(func(c *predict.Container) *bool { return &c.Init }),
		"cap_add":      list(func(c *predict.Container) *[]string { return &c.CapAdd }),
		"cap_drop":     list(func(c *predict.Container) *[]string { return &c.CapDrop }),
		"group_add":    list(func(c *predict.Container) *[]string { return &c.Groups }),
		"sysctls":      mapping(func(c *predict.Container) *map[string]string { return &c.Sysctls }),
		"annotations":  mapping(func(c *predict.Container) *map[string]string { return &c.Annotations }),
		"command":      (*service).command,
		"entrypoint":   (*service).entrypoint,
		"environment":  (*service).environment,
		"env_file":     (*service).envFile,
		"labels":       (*service).takeLabels,
		"label_file":   (*service).labelFile,
		"security_opt": (*service).security,
		"tmpfs":        (*service).tmpfs,
		"volumes":      (*service).takeVolumes,
		"devices":      (*service).devices,
		"secrets":      (*service).takeSecrets,
		"configs":      (*service).takeConfigs,
		"deploy":       (*service).deploy,
		"network_mode": namespace("network"),
		"pid":          namespace("pid"),
		"ipc":          namespace("ipc"),
		"uts":          namespace("uts"),
		"userns_mode":  (*service).userns,
		"extends":      unsupported("another service is not read here"),
		"volumes_from": unknown("asked.mounts", "the other container's mounts are docker's knowledge"),
		"gpus":         unknown("asked", "docker's plug-in on the host says which devices, mounts and hooks there are"),
		"models":       unknown("asked.environment", "compose gives variables with the models' addresses"),
		"provider":     func(_ *service, v *strictyaml.Value) error { return v.Errorf("a provider runs no container") },
		"use_api_socket": func(s *service, v *strictyaml.Value) error {
			on, err := v.Bool()
			if on {
				s.c.Doubt("asked.mounts", "use_api_socket: docker finds the socket and its credentials on the host", "")
			}
			return err
		},
		"device_cgroup_rules": list(func(c *predict.Container) *[]string { return &c.DeviceRules }),
	}
	for _, line := range idle {
		for _, name := range strings.Fields(line) {
			out[name] = nil
		}
	}
	return out
}

func text(at func(*predict.Container) *string) take {
	return func(s *service, v *strictyaml.Value) (err error) {
		*at(s.c), err = text0(v)
		return err
	}
}

func truth(at func(*predict.Container) *bool) take {
	return func(s *service, v *strictyaml.Value) (err error) {
		*at(s.c), err = v.Bool()
		return err
	}
}

func list(at func(*predict.Container) *[]string) take {
	return func(s *service, v *strictyaml.Value) (err error) {
		*at(s.c), err = texts(v)
		return err
	}
}

func mapping(at func(*predict.Container) *map[string]string) take {
	return func(s *service, v *strictyaml.Value) error {
		all, err := pairs(v)
		*at(s.c) = make(map[string]string)
		for _, p := range all {
			(*at(s.c))[p.name] = p.value
		}
		return err
	}
}

func unsupported(why string) take {
	return func(_ *service, v *strictyaml.Value) error { return &hinted{v.Errorf("%s", why), configHint} }
}

func unknown(fact, why string) take {
	return func(s *service, _ *strictyaml.Value) error {
		s.c.Doubt(fact, why, "")
		return nil
	}
}

// namespace is whose namespace it is: "service:NAME" is another container's.
func namespace(kind string) take {
	return func(s *service, v *strictyaml.Value) error {
		mode, err := text0(v)
		if err != nil {
			return err
		}
		if name, ok := strings.CutPrefix(mode, "service:"); ok {
			mode = "container:" + name
		}
		switch {
		case mode == "host", strings.HasPrefix(mode, "container:"), mode == "none" && kind == "ipc":
			s.c.SetNamespace(kind, mode)
		case kind == "network", mode == "", mode == "private", mode == "shareable":
		default:
			return v.Errorf("%q must be host, private, container:NAME or service:NAME", mode)
		}
		return nil
	}
}

func (s *service) userns(v *strictyaml.Value) error {
	mode, err := text0(v)
	if mode != "" && mode != "host" {
		s.c.Doubt("asked.members", "userns_mode "+mode+": docker chooses the ids", "")
	}
	return err
}

// words are a command: a list, or a string that is split.
func words(v *strictyaml.Value) ([]string, error) {
	if v.IsList() {
		return texts(v)
	}
	s, err := text0(v)
	if err != nil {
		return nil, err
	}
	out, err := predict.CommandWords(s)
	if err != nil {
		return nil, &hinted{v.Errorf("%w", err), "write a list of words"}
	}
	if out == nil {
		out = []string{}
	}
	return out, nil
}

func (s *service) command(v *strictyaml.Value) (err error) {
	s.c.Command, err = words(v)
	return err
}

func (s *service) entrypoint(v *strictyaml.Value) error {
	list, err := words(v)
	s.c.Entrypoint = &list
	return err
}

func (s *service) environment(v *strictyaml.Value) error {
	all, err := pairs(v)
	for _, p := range all {
		if p.name == "" {
			return v.Errorf("a variable must have a name")
		}
		s.set(&s.given, p)
	}
	return err
}

func (s *service) set(into *[]predict.Variable, p pair) {
	if !p.given {
		s.c.Borrow(p.name)
		return
	}
	*into = append(*into, predict.Variable{Name: p.name, Value: p.value})
}

// envFile reads files of variables: a name, a list of names, or of mappings.
func (s *service) envFile(v *strictyaml.Value) error {
	items := []*strictyaml.Value{v}
	if v.IsList() {
		items, _ = v.List()
	}
	for _, i := range items {
		if !i.IsObject() {
			name, err := text0(i)
			if err != nil {
				return err
			}
			if err := s.variables(name, "", true); err != nil {
				return err
			}
			continue
		}
		o, err := i.Object()
		if err != nil {
			return err
		}
		name, err := text0(o.Take("path"))
		if err != nil {
			return err
		}
		form, required := "", true
		if f := o.Take("format"); f != nil {
			form, err = text0(f)
		}
		if r := o.Take("required"); r != nil && err == nil {
			required, err = r.Bool()
		}
		if err := errors.Join(err, o.End()); err != nil {
			return err
		}
		if err := s.variables(name, form, required); err != nil {
			return err
		}
	}
	return nil
}

// variables reads one file, in compose's form or in docker's own ("raw").
func (s *service) variables(name, form string, required bool) error {
	text, err := s.files(name)
	if errors.Is(err, fs.ErrNotExist) && !required {
		s.c.Doubt("asked.environment", fmt.Sprintf("the file %s need not be there", name), "it is not there")
		return nil
	}
	if err != nil {
		return err
	}
	all, err := parseVariables(string(text), form == "raw")
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, p := range all {
		s.set(&s.fromFiles, p)
	}
	return nil
}

func (s *service) takeLabels(v *strictyaml.Value) error {
	all, err := pairs(v)
	return errors.Join(err, s.addLabels(all))
}

func (s *service) addLabels(all []pair) error {
	if s.label == nil {
		s.label = make(map[string]string)
	}
	for _, p := range all {
		s.label[p.name] = p.value
	}
	return nil
}

func (s *service) labelFile(v *strictyaml.Value) error {
	names, err := texts(v)
	for _, name := range names {
		text, err := s.files(name)
		if err != nil {
			return err
		}
		all, err := parseVariables(string(text), false)
		if err := errors.Join(err, s.addLabels(all)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return err
}

func (s *service) security(v *strictyaml.Value) error {
	all, err := texts(v)
	for _, option := range all {
		name, value, ok := strings.Cut(option, "=")
		if !ok {
			name, value, _ = strings.Cut(option, ":")
		}
		if err := s.c.SetSecurity(name, value); err != nil {
			return v.Errorf("%w", err)
		}
	}
	return err
}
