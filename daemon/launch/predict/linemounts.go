package predict

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var volumeName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

// volume takes --volume [SOURCE:]PLACE[:OPTIONS].
func (r *reader) volume(s string) error {
	m, err := r.c.ParseVolume(s)
	if err != nil {
		return err
	}
	if m.Kind != "" {
		r.c.Mounts = append(r.c.Mounts, m)
	}
	return nil
}

// ParseVolume reads [SOURCE:]PLACE[:OPTIONS]. Where only the host knows what is
// mounted, it notes that and returns a Mount without members.
func (c *Container) ParseVolume(s string) (Mount, error) {
	parts := strings.Split(s, ":")
	m := Mount{Kind: "volume"}
	switch len(parts) {
	case 1:
		m.Destination = parts[0]
		return m, nil
	case 2, 3:
		m.Source, m.Destination = parts[0], parts[1]
	default:
		return m, fmt.Errorf("a volume %q must be [SOURCE:]PLACE[:OPTIONS]", s)
	}
	switch {
	case strings.HasPrefix(m.Source, "/"):
		m.Kind = "bind"
	case strings.HasPrefix(m.Source, "."), strings.HasPrefix(m.Source, "~"):
		return m, hint(fmt.Errorf("volume %q: the source is relative to where the line runs", s), "write an absolute path")
	case !volumeName.MatchString(m.Source):
		return m, fmt.Errorf("volume %q: the source must be an absolute path or a volume's name", s)
	}
	if len(parts) == 3 {
		return c.volumeOptions(m, strings.Split(parts[2], ","))
	}
	return m, nil
}

// Options of volumes: with no effect on what is asked for (they label, change owners,
// copy), and podman's flags.
var (
	idleOptions   = strings.Fields("rw z Z consistent cached delegated default copy")
	podmanOptions = strings.Fields("exec noexec suid nosuid dev nodev bind rbind nocopy")
)

func (c *Container) volumeOptions(m Mount, options []string) (Mount, error) {
	for _, o := range options {
		name, _, _ := strings.Cut(o, "=")
		switch {
		case o == "ro" || o == "readonly":
			m.ReadOnly = true
		case slices.Contains(idleOptions, o), o == "":
		case slices.Contains(propagations, o):
			m.Options = append(m.Options, o)
		case c.Engine == Docker && (o == "nocopy" || o == "volume-nocopy"):
		case c.Engine == Podman && o == "U":
		case c.Engine == Podman && slices.Contains(podmanOptions, o):
			m.Options = append(m.Options, o)
		case c.Engine == Podman && (o == "O" || name == "upperdir" || name == "workdir" || name == "idmap" || o == "no-dereference"):
			c.Doubt("asked.mounts "+m.Destination, "the option "+o+": podman makes the mount by directories and ids of its own", "")
			return Mount{}, nil
		default:
			return m, fmt.Errorf("mount at %s: unknown option %q", m.Destination, o)
		}
	}
	return m, nil
}

func (r *reader) tmpfs(s string) error {
	r.c.AddTmpfs(s)
	return nil
}

// AddTmpfs takes PLACE[:OPTIONS], as --tmpfs has it.
func (c *Container) AddTmpfs(s string) {
	at, options, _ := strings.Cut(s, ":")
	m := Mount{Kind: "tmpfs", Destination: at}
	for o := range strings.SplitSeq(options, ",") {
		if o != "" {
			m.Options = append(m.Options, o)
		}
	}
	c.Mounts = append(c.Mounts, m)
}

// mount takes --mount type=TYPE,….
func (r *reader) mount(s string) error {
	fields, err := commaList(s)
	if err != nil {
		return err
	}
	p := &mountParser{c: r.c, m: Mount{Kind: "volume"}, docker: r.c.Engine == Docker}
	for _, f := range fields {
		name, value, ok := strings.Cut(f, "=")
		if err := p.field(strings.ToLower(name), value, ok); err != nil {
			return fmt.Errorf("mount %q: %w", s, err)
		}
	}
	m, err := p.finish()
	if err != nil {
		return fmt.Errorf("mount %q: %w", s, err)
	}
	if m.Kind != "" {
		r.c.Mounts = append(r.c.Mounts, m)
	}
	return nil
}

type mountParser struct {
	c      *Container
	m      Mount
	docker bool
	host   string // the option whose effect the host alone knows
}

// mountTypes are those whose content the line says.
var mountTypes = []string{"bind", "volume", "tmpfs", "devpts"}

func (p *mountParser) field(name, value string, given bool) (err error) {
	on := true
	if given {
		on = value == "true" || value == "1"
	}
	switch name {
	case "type":
		p.m.Kind = strings.ToLower(value)
	case "src", "source":
		p.m.Source = value
	case "dst", "target", "destination", "dest":
		p.m.Destination = value
	case "ro", "readonly":
		p.m.ReadOnly = on
	case "rw":
		p.m.ReadOnly = !on
	case "bind-propagation":
		if !slices.Contains(propagations, value) {
			return fmt.Errorf("unknown propagation %q", value)
		}
		p.m.Options = append(p.m.Options, value)
	case "bind-nonrecursive":
		p.recursive(!on)
	case "bind-recursive":
		p.recursive(value != "disabled")
	case "tmpfs-size":
		if p.docker {
			value, err = TmpfsSize(value)
		}
		p.m.Options = append(p.m.Options, "size="+value)
	case "tmpfs-mode":
		if p.docker {
			value, err = octal(value)
		}
		p.m.Options = append(p.m.Options, "mode="+value)
	case "consistency", "bind-create-src", "volume-nocopy", "volume-label", "volume-opt", "relabel", "u", "chown", "nocreate":
	case "volume-driver":
		if value != "local" {
			p.host = name
		}
	case "volume-subpath", "subpath", "image-subpath", "idmap", "no-dereference":
		p.host = name
	default:
		return p.flag(name, value, given)
	}
	return err
}

func (p *mountParser) recursive(on bool) {
	if !on {
		p.m.Options = append(p.m.Options, "bind")
	}
}

// flag takes podman's flags, which stand for themselves.
func (p *mountParser) flag(name, value string, given bool) error {
	switch {
	case p.docker:
	case p.m.Kind == "devpts" && slices.Contains(strings.Fields("uid gid mode ptmxmode newinstance max"), name):
		if given {
			name += "=" + value
		}
		p.m.Options = append(p.m.Options, name)
		return nil
	case name == "z":
		return nil
	case slices.Contains(propagations, name), slices.Contains(podmanOptions, name), slices.Contains(strings.Fields("tmpcopyup notmpcopyup noswap"), name):
		p.m.Options = append(p.m.Options, name)
		return nil
	}
	return fmt.Errorf("unknown option %q", name)
}

func (p *mountParser) finish() (Mount, error) {
	if p.m.Destination == "" {
		return p.m, errors.New("it must have a target")
	}
	switch {
	case p.host != "" || slices.Contains([]string{"image", "glob", "artifact", "ramfs", "cluster"}, p.m.Kind):
		p.c.Doubt("asked.mounts "+p.m.Destination, fmt.Sprintf("type %s %s: the engine makes the mount by directories of its own", p.m.Kind, p.host), "")
		return Mount{}, nil
	case !slices.Contains(mountTypes, p.m.Kind):
		return p.m, fmt.Errorf("unknown type %q", p.m.Kind)
	case p.m.Kind == "bind" && p.m.Source == "" && !p.docker:
		p.m.Source = p.m.Destination
	case p.m.Kind == "bind" && strings.HasPrefix(p.m.Source, "."):
		return p.m, hint(errors.New("the source is relative to where the line runs"), "write an absolute path")
	case p.m.Kind == "volume" && p.m.Source != "" && !volumeName.MatchString(p.m.Source):
		return p.m, fmt.Errorf("%q is no name of a volume", p.m.Source)
	}
	return p.m, nil
}

// TmpfsSize is a number of bytes as docker writes it for a tmpfs: in the largest unit
// that divides it.
func TmpfsSize(text string) (string, error) {
	n, err := bytesOf(text)
	if err != nil {
		return "", err
	}
	unit := ""
	for _, u := range []string{"k", "m", "g"} {
		if n == 0 || n%1024 != 0 {
			break
		}
		n, unit = n/1024, u
	}
	return strconv.FormatUint(n, 10) + unit, nil
}

// bytesOf reads a number of bytes with a unit: 64m, 1.5g, 10kb.
func bytesOf(text string) (uint64, error) {
	number := strings.TrimRight(strings.ToLower(strings.TrimSpace(text)), "bi ")
	shift := 0
	for i, unit := range []string{"k", "m", "g", "t", "p"} {
		if before, ok := strings.CutSuffix(number, unit); ok {
			number, shift = before, 10*(i+1)
			break
		}
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil || !(n >= 0 && n*float64(uint64(1)<<shift) < 1<<53) {
		return 0, fmt.Errorf("%q must be a number of bytes, such as 64m", text)
	}
	return uint64(n * float64(uint64(1)<<shift)), nil
}

func octal(text string) (string, error) {
	n, err := strconv.ParseUint(text, 8, 32)
	if err != nil {
		return "", fmt.Errorf("%q must be an octal mode", text)
	}
	return strconv.FormatUint(n, 8), nil
}
