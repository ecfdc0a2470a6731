package launch

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const usualPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// What of a variable is in the launch follows from where it comes from.
func TestEnvironment(t *testing.T) {
	name := func(n string) []Variable { return []Variable{{Name: Text(n)}} }
	value := func(n, v string) []Variable { text := Text(v); return []Variable{{Name: Text(n), Value: &text}} }
	digest := func(n, v string) []Variable { return []Variable{{Name: Text(n), SHA384: sha384Hex([]byte(v))}} }
	image := func(env ...Text) *ImageConfig {
		return &ImageConfig{Digest: "sha256:x", Environment: env, Labels: map[string]Text{publicLabel: "URL, OTHER"}}
	}
	id := strings.Repeat("a1", 32)
	for what, test := range map[string]struct {
		image    *ImageConfig
		env      []any
		asked    []Variable
		defaults []Text
	}{
		"the image's own":           {image("A=b"), []any{"A=b"}, nil, nil},
		"another value":             {image("A=b"), []any{"A=c"}, name("A"), nil},
		"the last one counts":       {image("A=b"), []any{"A=b", "A=c"}, name("A"), nil},
		"unset":                     {image("A=b", "B=c"), []any{"B=c"}, []Variable{{Name: "A", Unset: true}}, nil},
		"empty is not unset":        {image("A=b"), []any{"A="}, name("A"), nil},
		"no image":                  {nil, []any{"A=b"}, name("A"), nil},
		"engine's PATH":             {image(), []any{usualPath}, nil, []Text{"PATH"}},
		"engine's PATH for image's": {image("PATH=/x"), []any{usualPath}, value("PATH", usualPath[5:]), nil},
		"engine's PATH, no image":   {nil, []any{usualPath}, value("PATH", usualPath[5:]), nil},
		"another PATH":              {image(), []any{"PATH=/x"}, value("PATH", "/x"), nil},
		"TERM":                      {image(), []any{"TERM=xterm"}, nil, []Text{"TERM"}},
		"another TERM":              {image(), []any{"TERM=vt100"}, name("TERM"), nil},
		"podman":                    {image(), []any{"container=podman"}, nil, []Text{"container"}},
		"not podman":                {image(), []any{"container=lxc"}, name("container"), nil},
		"HOME of root":              {image(), []any{"HOME=/root"}, nil, []Text{"HOME"}},
		"HOME without passwd":       {image(), []any{"HOME="}, nil, []Text{"HOME"}},
		"HOME by passwd":            {image(), []any{"HOME=/home/app"}, nil, []Text{"HOME"}},
		"another HOME":              {image(), []any{"HOME=/evil"}, name("HOME"), nil},
		"image's HOME, changed":     {image("HOME=/x"), []any{"HOME=/root"}, name("HOME"), nil},
		"host name":                 {image(), []any{"HOSTNAME=" + id[:12]}, nil, []Text{"HOSTNAME"}},
		"host name, no image":       {nil, []any{"HOSTNAME=" + id[:12]}, nil, []Text{"HOSTNAME"}},
		"another host name":         {image(), []any{"HOSTNAME=x"}, name("HOSTNAME"), nil},
		"uuid of the id":            {image(), []any{"container_uuid=a1a1a1a1-a1a1-a1a1-a1a1-a1a1a1a1a1a1"}, nil, []Text{"container_uuid"}},
		"another uuid":              {image(), []any{"container_uuid=a1a1a1a1-a1a1-a1a1-a1a1-a1a1a1a1a1a2"}, name("container_uuid"), nil},
		"loader's":                  {image(), []any{"LD_PRELOAD=/x.so"}, value("LD_PRELOAD", "/x.so"), nil},
		"loader's with a slash":     {image(), []any{"LD_A/B=x"}, value("LD_A/B", "x"), nil},
		"loader's of python":        {image(), []any{"PYTHONPATH=/x"}, digest("PYTHONPATH", "/x"), nil},
		"certificates":              {image(), []any{"REQUESTS_CA_BUNDLE=/x"}, digest("REQUESTS_CA_BUNDLE", "/x"), nil},
		"not a loader's":            {image(), []any{"MY_LD_PRELOAD=/x", "ENVIRONMENT=x"}, append(name("ENVIRONMENT"), name("MY_LD_PRELOAD")...), nil},
		"public by label":           {image(), []any{"URL=https://x"}, value("URL", "https://x"), nil},
		"public by rules":           {image(), []any{"MODE=x"}, value("MODE", "x"), nil},
		"public and a loader's":     {image(), []any{"PYTHONHOME=/x"}, digest("PYTHONHOME", "/x"), nil},
		"the id in a value":         {image(), []any{"LD_X=" + id}, value("LD_X", "{id}"), nil},
		"no equals sign":            {image(), []any{"A"}, name("A"), nil},
		"bytes":                     {image("A=x"), []any{"A=x\xff"}, name("A"), nil},
	} {
		c := config(t, "docker")
		set("process.env", test.env)(c)
		raw := bytes.ReplaceAll(encode(t, c), []byte(`\ufffd`), []byte{0xff})
		l, err := FromConfig(bytes.NewReader(raw), Rules{Public: []string{"MODE"}}, Known{Image: test.image, Home: "/home/app"})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.asked, l.Asked.Environment); diff != "" {
			t.Errorf("%s, asked: %s", what, diff)
		}
		if diff := cmp.Diff(test.defaults, l.Defaults.Environment); diff != "" {
			t.Errorf("%s, defaults: %s", what, diff)
		}
		if (test.image != nil) != (l.ImageConfig == "sha256:x") {
			t.Errorf("%s: image_config %q", what, l.ImageConfig)
		}
	}
}

// Each name of the table of loaders is one.
func TestLoaders(t *testing.T) {
	for name, is := range map[string]bool{
		"LD_PRELOAD": true, "LD_LIBRARY_PATH": true, "LD_": true, "LD": false, "GCONV_PATH": true, "GCONV_PATHS": false, "GLIBC_TUNABLES": true, "PATH": true,
		"MANPATH": false, "PYTHONSTARTUP": true, "PERL5OPT": true, "PERLLIB": true, "PERL": false, "CLASSPATH": true, "CORECLR_PROFILER_PATH": true, "PHPRC": true, "BASH_FUNC_ls%%": true, "GEM_TOKEN": false, "RUBYOPT": true, "NODE_OPTIONS": true, "NODEX": false, "JAVA_TOOL_OPTIONS": true,
		"JDK_JAVA_OPTIONS": true, "_JAVA_OPTIONS": true, "BASH_ENV": true, "ENV": true, "ENVS": false, "DOTNET_STARTUP_HOOKS": true, "LUA_PATH": true,
		"CURL_CA_BUNDLE": true, "SSL_CERT_FILE": true, "OPENSSL_CONF": true, "openssl_conf": false,
	} {
		if matches(loaders, name) != is {
			t.Errorf("%s: %t", name, !is)
		}
	}
}

// Docker's form of an image's configuration and that of OCI.
func TestImageConfig(t *testing.T) {
	const text = `{"architecture":"amd64","config":{"Env":["A=b","C=\xff"],"User":"app","WorkingDir":"/w","Entrypoint":["/e"],"Cmd":["c"],` +
		`"Labels":{"l":"v"},"Volumes":{"/v":{},"/a":{}}},"rootfs":{"type":"layers","diff_ids":[]}}`
	raw := []byte(strings.ReplaceAll(text, `\xff`, "\xff"))
	got, err := ParseImageConfig(raw)
	if err != nil {
		t.Fatal(err)
	}
	want := &ImageConfig{
		Digest: "sha256:" + sha256Hex(raw), Environment: []Text{"A=b", "C=\xff"}, User: "app", WorkingDirectory: "/w",
		Entrypoint: []Text{"/e"}, Command: []Text{"c"}, Labels: map[string]Text{"l": "v"}, Volumes: []string{"/a", "/v"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for name, bad := range map[string][]byte{
		"empty": nil, "no object": []byte(`"x"`), "half": []byte(`{"config":`), "a list": []byte(`{"config":[]}`), "no list": []byte(`{"config":{"Env":"A=b"}}`),
		"a manifest": []byte(`{"schemaVersion":2,"config":{"digest":"sha256:x"}}`),
		"large":      append([]byte(`{"config":{}}`), bytes.Repeat([]byte(" "), maxImageConfig)...),
		"variables":  []byte(`{"rootfs":{},"config":{"Env":["` + strings.Repeat(`A","`, maxVariables) + `A"]}}`),
	} {
		if i, err := ParseImageConfig(bad); err == nil || len(err.Error()) > 300 {
			t.Errorf("%s: %+v, %v", name, i, err)
		}
	}
}

// Any bytes give an error, or a configuration by which any bundle can be normalised.
func FuzzImageConfig(f *testing.F) {
	f.Add([]byte(`{"rootfs":{},"config":{"Env":["A=b","=","PATH"],"Labels":{"cima.environment.public":",A b"}}}`))
	f.Add([]byte(`{"rootfs":{},"config":null}`))
	c := config(f, "podman")
	spec, err := Parse(encode(f, c), "podman")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		i, err := ParseImageConfig(raw)
		if err != nil {
			return
		}
		l, err := Normalise(spec, spec.ID(), Rules{}, Known{Image: i})
		if err != nil {
			t.Fatal(err)
		}
		digestOf(t, l, Image{})
	})
}
