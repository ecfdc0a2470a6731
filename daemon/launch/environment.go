package launch

import (
	"slices"
	"strings"
)

// loaders are patterns of variables by which programs find the code that they run:
// the dynamic loader's and those of languages, shells and certificates.
var loaders = []string{
	"LD_*", "PATH", "GCONV_PATH", "GLIBC_TUNABLES", "PYTHON*", "PERL5*", "PERLLIB", "RUBY*", "GEM_HOME", "GEM_PATH", "BUNDLE_GEMFILE",
	"NODE_*", "CLASSPATH", "JAVA_TOOL_OPTIONS", "JDK_*", "_JAVA_OPTIONS", "IBM_JAVA_OPTIONS", "OPENJ9_JAVA_OPTIONS", "BASH_*", "SHELLOPTS", "ZDOTDIR", "ENV",
	"DOTNET_*", "CORECLR_*", "LUA_*", "PHPRC", "PHP_INI_SCAN_DIR", "*_CA_BUNDLE", "SSL_CERT_*", "OPENSSL_CONF", "OPENSSL_MODULES", "OPENSSL_ENGINES",
}

// inClear are those of loaders that hold no secret.
var inClear = []string{"LD_*", "PATH"}

func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		if end, ok := strings.CutPrefix(p, "*"); ok {
			return strings.HasSuffix(name, end)
		}
		begin, ok := strings.CutSuffix(p, "*")
		return ok && strings.HasPrefix(name, begin) || name == p
	})
}

// variables returns each variable once, as the runtimes set them: the last one counts.
func variables(env []Text) map[string]Text {
	out := map[string]Text{}
	for _, e := range env {
		name, value, _ := strings.Cut(string(e), "=")
		out[name] = Text(value)
	}
	return out
}

// environment separates the variables that were asked for from the engine's own, of
// which it returns the names.
func (n *normaliser) environment() (asked []Variable, engines []Text) {
	have := variables(n.c.Process.Env)
	var images map[string]Text
	if n.known.Image != nil {
		images = variables(n.known.Image.Environment)
	}
	for name, value := range have {
		own, inImage := images[name]
		switch {
		case inImage && own == value:
		case n.ofInstance(name, value), n.known.Image != nil && !inImage && n.constant(name, value):
			engines = append(engines, Text(name))
		default:
			asked = append(asked, n.variable(name, value))
		}
	}
	for name := range images {
		if _, ok := have[name]; !ok {
			asked = append(asked, Variable{Name: Text(name), Unset: true})
		}
	}
	slices.Sort(engines)
	slices.SortFunc(asked, func(a, b Variable) int { return strings.Compare(string(a.Name), string(b.Name)) })
	return asked, engines
}

// ofInstance reports whether an engine made a variable of the container's id or host
// name.
func (n *normaliser) ofInstance(name string, value Text) bool {
	switch name {
	case "HOSTNAME": // in the host's uts namespace podman gives the host's name
		return n.pod || value == n.c.Hostname || value == n.c.Hostname+"."+n.c.Domainname ||
			n.c.Hostname == "" && n.c.Namespaces()["uts"] == NamespaceHost
	case "container_uuid": // podman's, for systemd
		return IsID(n.id) && strings.ReplaceAll(string(value), "-", "") == n.id[:32]
	}
	return false
}

// constant reports whether an engine gives this very value to every container whose
// image has no such variable.
func (n *normaliser) constant(name string, value Text) bool {
	if name == "HOME" { // podman's, by the image's passwd; podman 5 leaves it empty without one
		return n.known.Home != "" && value == n.known.Home || value == "" || value == "/" || value == "/root" && n.c.Process.User.UID == 0
	}
	return slices.Contains(engineVariables, Text(name)+"="+value)
}

// variable is one that was asked for.
func (n *normaliser) variable(name string, value Text) Variable {
	v := Variable{Name: Text(name)}
	value = withoutID(value, n.id)
	switch {
	case matches(inClear, name), slices.Contains(n.rules.Public, name), slices.Contains(n.known.Image.public(), name):
		v.Value = &value
	case matches(loaders, name):
		v.SHA384 = sha384Hex([]byte(value))
	}
	return v
}
