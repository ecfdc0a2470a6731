package policy

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

func TestParse(t *testing.T) {
	digest := strings.Repeat("ab", 48)
	boot := "[[boot]]\nmrtd=\"" + digest + "\"\nrtmr0=\"" + digest + "\"\nrtmr1=\"" + digest + "\"\n"
	for text, want := range map[string]string{
		"":                                             "",
		boot + "rtmr2=\"" + digest + "\"\n":            "",
		boot:                                           "must be there, as a value or by events",
		"[container]\nlaunch_digest = []\n":            `line 2: unknown key "container.launch_digest"`,
		"\n\n[containers]\nany = true\n":               `line 3: unknown key "containers"`,
		"match = { asked = { x = 1 } }\n":              `unknown key "match"`,
		"[container.match.asked]\nx = 1\n":             `unknown key "container.match.asked"`,
		"colour = 1\n":                                 `line 1: unknown key "colour"`,
		"# x\n[container]\nany = true\nAny=true":       `line 4: unknown key "container.Any"`,
		"[power]\nallow = 3\n":                         "line 2",
		"[power\n":                                     "line 2",
		"[power]\nallow = []\nallow = []\n":            "line 3",
		"[container]\nstart = [\"ungated\"]\n":         `value "ungated" is unknown: it must be one of gated, observed`,
		"[container]\nsource = [\"root\"]\n":           `value "root" is unknown`,
		"[container]\nimage_digests=[\"sha256:AB\"]\n": "lower-case hex",
		"[container]\nlaunch_digests=[\"ab\"]\n":       "96 hex digits",
		"[agent]\nanchors=[\"rtmr2\"]\n":               `anchor "rtmr2" is unknown`,
		"[[required]]\noperation=\"boot\"\n":           `operation "boot" is unknown`,
		"[[required]]\noperation=\"extend\"\nmatch = { domain = \"a\" }\n":                     "",
		"[[required]]\noperation=\"extend\"\nmatch = { Domain = \"a\" }\n":                     `no member "Domain": it must be one of domain,`,
		"[[forbidden]]\noperation=\"exec\"\nmatch = { sha256 = \"a\" }\n":                      `no member "sha256"`,
		"[container.launch]\nmatch = { root_read_only = true }\n":                              `no member "root_read_only"`,
		"[container.launch]\nmatch = { asked = { root_readonly = true } }\n":                   `asked has no member "root_readonly"`,
		"[container.launch]\nmatch = { asked = [] }\n":                                         "asked must be a table of members",
		"[container.launch]\nmounts = [{ destination = \"/\", option = [\"ro\"] }]\n":          `no member "option"`,
		"[[boot]]\nname=\"a\"\n[[boot]]\nname=\"b\"\nmrtd=\"" + strings.ToUpper(digest) + "\"": "lower-case hex",
		"#" + strings.Repeat("x", maxPolicy):                                                   "at most",
	} {
		_, err := Parse([]byte(text))
		switch {
		case want == "" && err != nil:
			t.Errorf("%.80q: %v", text, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%.80q: error %v, want %q", text, err, want)
		}
	}
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.toml")
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("no file: %v", err)
	}
	if err := os.WriteFile(path, []byte("[td]\nallow_debug = true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := Load(path)
	if err != nil || !p.TD.AllowDebug {
		t.Fatalf("%+v, %v", p, err)
	}
	// What the policy leaves out stays strict.
	if !slices.Equal(p.Agent.Anchors, []string{"rtmr3"}) || !slices.Equal(p.Container.Start, []string{"gated"}) ||
		!slices.Equal(p.Container.Source, []string{"bundle", "engine"}) || !slices.Equal(p.Container.CgroupOwner, []uint32{0}) ||
		len(p.Power.Allow) != 0 || p.Agent.AllowNewKey || p.Container.Any || p.Host.Any {
		t.Errorf("defaults: %+v", p)
	}
}

func TestVerityInPolicy(t *testing.T) {
	for digest, good := range map[string]bool{
		"sha256:" + strings.Repeat("aa", 32): true, "sha512:" + strings.Repeat("aa", 64): true,
		"sha256:" + strings.Repeat("aa", 64): false, "sha256:" + strings.Repeat("AA", 32): false, strings.Repeat("aa", 32): false, "": false,
	} {
		_, err := Parse([]byte("[container]\nany = true\nexec_verity = [\"" + digest + "\"]\n"))
		if (err == nil) != good || err != nil && !strings.Contains(err.Error(), "exec_verity") {
			t.Errorf("%q: %v", digest, err)
		}
	}
}

func FuzzPolicy(f *testing.F) {
	text, err := Init(Seen{Claims: &rpc.Claims{
		Log:       rpc.LogClaims{Anchor: logs.AnchorRTMR3},
		Container: &rpc.ContainerClaims{ID: "1", Image: "an image", Assurance: rpc.Assurance{Start: "gated"}},
	}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("[a.b]\nc=1\n[[d]]\n\"e\".f=2\n"))
	f.Fuzz(func(t *testing.T, text []byte) { Parse(text) })
}
