package policy

import (
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

func TestOldPolicies(t *testing.T) {
	for name, tt := range map[string]struct{ old, want, note string }{
		"whole": {
			"backend: ima\nhashAlgorithm: sha384\nmeasure:\n  system:\n    withParameter: true\n    processes:\n      - /usr/bin/containerd\n" +
				"      - \"/usr/bin/kube let\"\n      - /usr/bin/containerd\n  container:\n    isolated: true\n  kubernetes:\n    withParameter: true\n    pods: [kube-proxy]\n",
			"isolation = \"redacted\"\n|[[system]]\npath = \"/usr/bin/containerd\"\narguments = true\n\n[[system]]\npath = \"/usr/bin/kube let\"\narguments = true\n",
			"kube-proxy",
		},
		"not isolated":    {"measure: {container: {isolated: false}}\n", "isolation = \"none\"\n", ""},
		"without measure": {"system:\n  processes: [/bin/x]\n", "arguments = false\n", ""},
		"empty":           {"", "isolation = \"redacted\"\n", ""},
		"empty parts":     {"measure:\n  system:\n    processes:\n  container:\n", "isolation = \"redacted\"\n", ""},
		"a name":          {"measure: {system: {processes: [kubelet]}}", "isolation", "\"kubelet\" is no absolute"},
		"not clean":       {"measure: {system: {processes: [/bin/../x]}}", "isolation", "\"/bin/../x\" is no absolute"},
		"another hash":    {"hashAlgorithm: sha256\n", "isolation", "\"sha256\" has no counterpart"},
		"another backend": {"backend: \"b\\npath = 1\"\n", "isolation", `"b\npath = 1" has no counterpart`},
		"a quote":         {"measure: {system: {processes: ['/a\"\t\u00e9\\']}}", "isolation", ""},
	} {
		p, err := readOldPolicy([]byte(tt.old))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		text, notes := p.convert()
		for want := range strings.SplitSeq(tt.want, "|") {
			if !strings.Contains(text, want) {
				t.Errorf("%s: lacks %q:\n%s", name, want, text)
			}
		}
		if all := strings.Join(notes, "\n"); (tt.note == "") != (all == "") || !strings.Contains(all, tt.note) {
			t.Errorf("%s: notes %q", name, all)
		}
		var read map[string]any
		if _, err := toml.Decode(text, &read); err != nil {
			t.Errorf("%s: %v in\n%s", name, err, text)
		}
		if _, leaked := read["path"]; leaked {
			t.Errorf("%s: a comment became a key:\n%s", name, text)
		}
	}
	for old, want := range map[string]string{
		"backend: ima\nfoo: 1\n":                           "line 2: key \"foo\"",
		"measure:\n  container:\n    isolate: true\n":      "line 3: key \"isolate\"",
		"measure:\n  container:\n    isolated: maybe\n":    "line 3: must be one value of the type bool",
		"measure: []\n":                                    "line 1: must be a mapping",
		"measure: {system: {processes: /bin/x}}\n":         "line 1: must be a list",
		"measure: {system: {processes: [[/bin/x]]}}\n":     "line 1: must be one value",
		"backend: ima\nbackend: ima\n":                     "twice",
		"a: b\n---\nc: d\n":                                "there must be one document",
		"backend: [\n":                                     "line",
		"measure: {system: {processes: [!!binary L/8=]}}":  "must be UTF-8",
		"x: &a [1]\nmeasure: *a\n":                         "line 1: key \"x\"",
		"measure: {system: {processes: [&a /x]}}\nb: *a\n": "line 2",
	} {
		if _, err := readOldPolicy([]byte(old)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", old, err, want)
		}
	}
}

func FuzzOldPolicy(f *testing.F) {
	f.Add("backend: ima\nmeasure:\n  system:\n    withParameter: true\n    processes: [/bin/x, \"/a\\\"b\"]\n")
	f.Fuzz(func(t *testing.T, old string) {
		p, err := readOldPolicy([]byte(old))
		if err != nil {
			return
		}
		text, _ := p.convert()
		var read struct {
			Isolation string
			System    []systemTable
		}
		if meta, err := toml.Decode(text, &read); err != nil || len(meta.Undecoded()) > 0 {
			t.Errorf("%q became\n%s\n%v %v", old, text, err, meta.Undecoded())
		}
	})
}
