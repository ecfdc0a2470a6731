package launches

import (
	"crypto/sha512"
	"encoding/json/jsontext"
	"fmt"
	"strings"
	"testing"

	"github.com/cima-project/cima/logs/canonical"
)

const (
	config = "sha256:5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e"
	digest = "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a"
	whole  = `{"asked":{"arguments":["/bin/app"],"user":{"gid":0,"uid":0}},"cgroup_owner":0,` +
		`"defaults":{"capabilities":{"bounding":["CAP_KILL"]}},"image_config":"` + config + `","source":"bundle"}`
	earlier = `{"arguments":["/bin/app"],"capabilities":{},"cgroup_owner":0,"source":"bundle","user":{"gid":0,"uid":0}}`
)

func TestRead(t *testing.T) {
	for body, want := range map[string]string{
		whole: "",
		`{"asked_sha384":"` + digest + `","cgroup_owner":7,"defaults_sha384":"` + digest + `","source":"user"}`:                                                "",
		`{"asked":{},"cgroup_owner":0,"defaults":{},"entrypoint":{"path":"/app","sha384":"` + digest + `"},"limits":{"process.rlimits":[]},"source":"engine"}`: "",
		`{"cgroup_owner":0,"source":"none"}`: "",
		earlier:                              "",
		`{"capabilities":{},"cgroup_owner":0,"source":"none","user":{"gid":0,"uid":0},"whole":"` + digest + `"}`: "",

		`[]`: "must be an object",
		``:   "must be an object",
		`{"cgroup_owner":0,"source":"none","asked":{}}`:                                                                        "must have no facts",
		`{"cgroup_owner":0,"source":"bundle"}`:                                                                                 "must have asked or asked_sha384",
		strings.Replace(whole, `"bundle"`, `"bundles"`, 1):                                                                     "source must be one of bundle",
		strings.Replace(whole, `"source":"bundle"`, `"sources":"bundle"`, 1):                                                   "source must be one of",
		strings.Replace(whole, `"cgroup_owner":0`, `"cgroup_owner":-1`, 1):                                                     "cgroup_owner must be a number",
		strings.Replace(whole, `"cgroup_owner":0,`, ``, 1):                                                                     "cgroup_owner must be a number",
		strings.Replace(whole, `"source"`, `"sequel":1,"source"`, 1):                                                           `launch has the unknown member "sequel"`,
		strings.Replace(whole, `"user"`, `"uses"`, 1):                                                                          `asked has the unknown member "uses"`,
		strings.Replace(whole, `"capabilities"`, `"capacities"`, 1):                                                            `defaults has the unknown member "capacities"`,
		strings.Replace(whole, `"source"`, `"asked_sha384":"`+digest+`","source"`, 1):                                          "must have asked or asked_sha384, and not both",
		strings.Replace(whole, `sha256:5e`, `sha256:5E`, 1):                                                                    "image_config must be",
		strings.Replace(whole, `"source"`, `"entrypoint":{"file":"x","path":"y"},"source"`, 1):                                 `entrypoint has the unknown member "file"`,
		strings.Replace(whole, `"source"`, `"entrypoint":{},"source"`, 1):                                                      "entrypoint must have a path",
		strings.Replace(whole, `"source"`, `"pod":{"name":"a","namespace":"b","uid":"c"},"source"`, 1):                         "",
		strings.Replace(whole, `"source"`, `"pod":{"names":"a"},"source"`, 1):                                                  `pod has the unknown member "names"`,
		strings.Replace(whole, `"source"`, `"pod":{"name":1},"source"`, 1):                                                     "pod: ",
		strings.Replace(whole, `"source"`, `"pod":{"name":""},"source"`, 1):                                                    "must say something",
		strings.Replace(whole, `"source"`, `"pod":{},"source"`, 1):                                                             "must say something",
		strings.Replace(whole, `"source"`, `"pod":"a","source"`, 1):                                                            "pod: must be an object",
		`{"cgroup_owner":0,"pod":{"name":"a"},"source":"none"}`:                                                                "must have no facts",
		strings.Replace(whole, `"source"`, `"limits":[],"source"`, 1):                                                          "limits: must be an object",
		`{"asked":[],"cgroup_owner":0,"defaults":{},"source":"bundle"}`:                                                        "asked: must be an object",
		`{"asked_sha384":"0A","cgroup_owner":0,"defaults":{},"source":"bundle"}`:                                               "asked_sha384",
		`{"asked_sha384":"` + digest + `","cgroup_owner":0,"defaults":{},"limits":{},"source":"bundle"}`:                       "limits must be left out",
		strings.Replace(earlier, `"user"`, `"asked":{},"user"`, 1):                                                             "unknown member",
		strings.Replace(earlier, `"arguments"`, `"argument"`, 1):                                                               "unknown member",
		strings.Replace(earlier, `"capabilities":{},`, ``, 1):                                                                  "unknown member",
		`{"asked":{"unknown":{"x":1}},"cgroup_owner":0,"defaults":{},"source":"bundle","` + strings.Repeat("x", 5000) + `":1}`: `unknown member "xxxx`,
	} {
		l, err := Read(jsontext.Value(body))
		switch {
		case want == "" && (err != nil || l == nil):
			t.Errorf("%.120s: %v", body, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%.120s: %v, want %q", body, err, want)
		case err != nil && len(err.Error()) > 200:
			t.Errorf("%.120s: an error of %d bytes", body, len(err.Error()))
		case err == nil && l.Earlier != strings.Contains(body, `"user":{"gid":0,"uid":0}`) && !strings.Contains(body, "asked"):
			t.Errorf("%.120s: earlier %v", body, l.Earlier)
		}
	}
}

// The digests, written out by hand from cima-evidence(7).
func TestDigests(t *testing.T) {
	sum := func(text string) string { return fmt.Sprintf("%x", sha512.Sum384([]byte(text))) }
	asked := `{"arguments":["/bin/app"],"user":{"gid":0,"uid":0}}`
	for name, c := range map[string]struct {
		body  string
		image Image
		want  string // what the launch digest is over
	}{
		"config of the launch": {whole, Image{Digest: "sha256:other"}, `{"asked":"` + sum(asked) + `","cgroup_owner":0,"image":{"config":"` + config + `"},"source":"bundle"}`},
		"config of the image": {`{"asked":` + asked + `,"cgroup_owner":3,"defaults":{},"source":"user"}`, Image{Digest: "sha256:ab", Manifest: "sha256:cd", Reference: "a", Layers: []string{"b"}},
			`{"asked":"` + sum(asked) + `","cgroup_owner":3,"image":{"config":"sha256:ab"},"source":"user"}`},
		"manifest": {`{"asked":{},"cgroup_owner":0,"defaults":{},"source":"engine"}`, Image{Manifest: "sha256:cd"},
			`{"asked":"` + sum("{}") + `","cgroup_owner":0,"image":{"manifest":"sha256:cd"},"source":"engine"}`},
		"absent": {`{"asked":{},"cgroup_owner":0,"defaults":{},"source":"engine"}`, Image{Absent: "no engine"},
			`{"asked":"` + sum("{}") + `","cgroup_owner":0,"image":{"absent":"no engine"},"source":"engine"}`},
		"too large": {`{"asked_sha384":"` + digest + `","cgroup_owner":0,"defaults_sha384":"` + digest + `","source":"bundle"}`, Image{},
			`{"asked":"` + digest + `","cgroup_owner":0,"image":{"absent":""},"source":"bundle"}`},
		"nothing known": {`{"cgroup_owner":0,"source":"none"}`, Image{Absent: "gone"}, `{"cgroup_owner":0,"image":{"absent":"gone"},"source":"none"}`},
	} {
		l, err := Read(jsontext.Value(c.body))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, err := l.digest(c.image); err != nil || got.String() != sum(c.want) {
			t.Errorf("%s: %v, %v; want that of %s", name, got, err, c.want)
		}
	}
	l, _ := Read(jsontext.Value(whole))
	if want := sum(`{"capabilities":{"bounding":["CAP_KILL"]}}`); l.DefaultsDigest.String() != want {
		t.Errorf("defaults digest %v, want %s", l.DefaultsDigest, want)
	}
	if l, _ := Read(jsontext.Value(`{"cgroup_owner":0,"source":"none"}`)); l.DefaultsDigest != (canonical.Digest{}) {
		t.Errorf("nothing known: defaults digest %v", l.DefaultsDigest)
	}
}

func TestReadImage(t *testing.T) {
	for body, want := range map[string]bool{
		`{"reference":"a","digest":"b","manifest":"c","layers":["d"]}`: true,
		`{"absent":"x"}`: true,
		`{"name":"a"}`:   false,
		`{"layers":"a"}`: false,
		`[]`:             false,
	} {
		if _, err := ReadImage(jsontext.Value(body)); (err == nil) != want {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// FuzzRead: what can be read has its digests, differs in nothing from itself, and from
// another launch of another digest in a fact at least.
func FuzzRead(f *testing.F) {
	for _, body := range []string{whole, earlier, `{"cgroup_owner":0,"source":"none"}`, `{"asked":{"mounts":[{"destination":"/a"},{"destination":"/a"}],"unknown":{"x":null}},"cgroup_owner":0,"defaults":{},"source":"bundle"}`} {
		f.Add([]byte(body), []byte(whole))
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		one, ok := measured(a)
		two, other := measured(b)
		if !ok || !other {
			return
		}
		if d := one.Against(one); len(d) != 0 {
			t.Errorf("%s differs from itself: %v", a, d)
		}
		first, err := one.Digest()
		second, err2 := two.Digest()
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		if d := one.Against(two); (len(d) == 0) != (first == second) {
			t.Errorf("%s and %s: digests %v and %v, differences %v", a, b, first, second, d)
		}
		if d := one.DefaultsAgainst(two); (len(d) == 0) != (one.DefaultsDigest == two.DefaultsDigest) {
			t.Errorf("%s and %s: defaults differ in %v", a, b, d)
		}
	})
}

func measured(body []byte) (m Measured, ok bool) {
	form, err := canonical.Marshal(jsontext.Value(body))
	if err != nil {
		return m, false
	}
	m.Launch, err = Read(form)
	return m, err == nil && !m.Earlier
}
