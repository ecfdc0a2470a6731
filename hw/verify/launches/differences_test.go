package launches

import (
	"encoding/json/jsontext"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func launchOf(t *testing.T, asked, defaults string) Measured {
	t.Helper()
	l, err := Read(jsontext.Value(`{"asked":` + asked + `,"cgroup_owner":0,"defaults":` + defaults + `,"source":"bundle"}`))
	if err != nil {
		t.Fatal(err)
	}
	return Measured{l, Image{Digest: config}}
}

func lines(list []Difference) (lines []string) {
	for _, d := range list {
		lines = append(lines, d.fact+": "+d.want+" / "+d.got)
	}
	return lines
}

// Each fact that differs is named once, by its path.
func TestDifferences(t *testing.T) {
	for _, c := range []struct {
		name, want, got string
		differ          []string
	}{
		{"nothing", `{"arguments":["a"]}`, `{"arguments":["a"]}`, nil},
		{"arguments are one fact", `{"arguments":["a","b"]}`, `{"arguments":["a","c"]}`, []string{`asked.arguments: ["a","b"] / ["a","c"]`}},
		{"a mount by its destination", `{"mounts":[{"destination":"/a","source":"/srv/a"},{"destination":"/b"}]}`,
			`{"mounts":[{"destination":"/a","options":["rw"],"source":"/etc"},{"destination":"/c"}]}`,
			[]string{`asked.mounts[/a].options:  / ["rw"]`, `asked.mounts[/a].source: "/srv/a" / "/etc"`, `asked.mounts[/b]: {"destination":"/b"} / `, `asked.mounts[/c]:  / {"destination":"/c"}`}},
		{"two mounts at one place", `{"mounts":[{"destination":"/a","type":"x"},{"destination":"/a","type":"y"}]}`,
			`{"mounts":[{"destination":"/a","type":"x"},{"destination":"/a","type":"z"}]}`, []string{`asked.mounts[/a, number 2].type: "y" / "z"`}},
		{"a destination that isn't UTF-8", `{"mounts":[{"destination":{"b64":"/w=="}}]}`, `{}`,
			[]string{`asked.mounts: [{"destination":{"b64":"/w=="}}] / `}},
		{"variables", `{"environment":[{"name":"A","value":"1"},{"name":"B"}]}`, `{"environment":[{"name":"A","value":"2"}]}`,
			[]string{`asked.environment[A].value: "1" / "2"`, `asked.environment[B]: {"name":"B"} / `}},
		{"hooks have an order", `{"hooks":[{"path":"/a","stage":"prestart"},{"path":"/b","stage":"prestart"}]}`,
			`{"hooks":[{"path":"/b","stage":"prestart"},{"path":"/a","stage":"prestart"}]}`,
			[]string{`asked.hooks: [{"path":"/a","stage":"prestart"},{"path":"/b","stage":"prestart"}] / [{"path":"/b","stage":"prestart"},{"path":"/a","stage":"prestart"}]`}},
		{"user", `{"user":{"gid":0,"uid":0}}`, `{"user":{"gid":0,"uid":1000}}`, []string{`asked.user.uid: 0 / 1000`}},
		{"unknown members", `{}`, `{"unknown":{"linux.new":{"a":null}}}`, []string{`asked.unknown:  / {"linux.new":{"a":null}}`}},
		{"null isn't absent", `{"unknown":{"x":null}}`, `{"unknown":{}}`, []string{`asked.unknown.x: null / `}},
		{"zero isn't absent", `{"members":{"x":0}}`, `{"members":{}}`, []string{`asked.members.x: 0 / `}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := lines(launchOf(t, c.want, `{}`).Against(launchOf(t, c.got, `{}`)))
			if !slices.Equal(got, c.differ) {
				t.Errorf("%q\nwant %q", got, c.differ)
			}
		})
	}
}

func TestDifferencesOutsideAsked(t *testing.T) {
	want, got := launchOf(t, `{}`, `{"umask":18}`), launchOf(t, `{}`, `{"umask":0}`)
	got.Source, got.CgroupOwner, got.Image = "user", 7, Image{Manifest: "sha256:cd"}
	if l := lines(want.Against(got)); !slices.Equal(l, []string{`source: "bundle" / "user"`, `cgroup_owner: 0 / 7`,
		`image.config: "` + config + `" / `, `image.manifest:  / "sha256:cd"`}) {
		t.Errorf("%q", l)
	}
	if l := lines(want.DefaultsAgainst(got)); !slices.Equal(l, []string{`defaults.umask: 18 / 0`}) {
		t.Errorf("%q", l)
	}
	got.Asked, got.AskedDigest = nil, got.AskedDigest.Extend(got.AskedDigest)
	if l := lines(want.Against(got)); len(l) != 5 || !strings.HasPrefix(l[4], "asked: ") || !strings.Contains(l[4], "not shown") {
		t.Errorf("too large: %q", l)
	}
	if l := lines(want.Facts()); len(l) != 3 || l[2] != `image.config:  / "`+config+`"` {
		t.Errorf("facts: %q", l)
	}
}

// A launch of the most mounts of one name that an event holds takes no more time than
// one of other names.
func TestManyOfOneName(t *testing.T) {
	element := `{"destination":"/a","type":"%d"}`
	var a, b []string
	for i := range 7000 {
		a, b = append(a, fmt.Sprintf(element, i)), append(b, fmt.Sprintf(element, i+1))
	}
	one := launchOf(t, `{"mounts":[`+strings.Join(a, ",")+`]}`, `{}`)
	two := launchOf(t, `{"mounts":[`+strings.Join(b, ",")+`]}`, `{}`)
	if d := one.Against(two); len(d) != 7000 {
		t.Errorf("%d differences", len(d))
	}
}
