package launch

import (
	"bytes"
	"encoding/json/jsontext"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/cima-project/cima/logs/canonical"
)

// leaf is a plain value of the runtime specification.
type leaf struct {
	path string // as in fates
	kind reflect.Kind
}

// leavesOf are the plain values of a type that Linux has, by reflection.
func leavesOf(t reflect.Type, path string) []leaf {
	switch t.Kind() {
	case reflect.Pointer:
		return leavesOf(t.Elem(), path)
	case reflect.Slice:
		return leavesOf(t.Elem(), path+"[]")
	case reflect.Map:
		return leavesOf(t.Elem(), path+"{}")
	case reflect.Struct:
	default:
		return []leaf{{path, t.Kind()}}
	}
	var out []leaf
	fields := 0
	for f := range t.Fields() {
		if platform := f.Tag.Get("platform"); platform != "" && !strings.Contains(platform, "linux") {
			continue
		}
		fields++
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		at := strings.TrimPrefix(path+"."+name, ".")
		if f.Anonymous && name == "" {
			at = path
		}
		out = append(out, leavesOf(f.Type, at)...)
	}
	if fields == 0 {
		panic(path + " is an object without members")
	}
	return out
}

// The table has each member of the runtime specification, and no other.
func TestFateOfEachMember(t *testing.T) {
	if specs.Version != "1.3.0" {
		t.Fatal(specs.Version)
	}
	var want, got []string
	for _, l := range leavesOf(reflect.TypeFor[specs.Spec](), "") {
		want = append(want, l.path)
	}
	for path := range leaves() {
		got = append(got, path)
	}
	if len(want) < 160 {
		t.Errorf("only %d members", len(want))
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// values are two that differ, for a member of this kind. Integers are those that a
// double can't tell apart, where they fit.
func (l leaf) values() (a, b any) {
	if l.path == "ociVersion" {
		return "1.0.0", "1.3.0" // another major version is unknown
	}
	switch l.kind {
	case reflect.Bool:
		return true, false
	case reflect.String:
		return "cwA", "cwB"
	case reflect.Int, reflect.Int64, reflect.Uint, reflect.Uint64:
		return number("9007199254740992"), number("9007199254740993")
	}
	return 7, 11
}

// number is an integer of JSON, all digits of it.
type number string

func (n number) MarshalJSON() ([]byte, error) { return []byte(n), nil }

// with returns a copy of a configuration with a value at a path: in the last element of
// an array, and under the name "k" where names are data.
func with(at any, path string, value any) any {
	if path == "" {
		return value
	}
	if rest, ok := strings.CutPrefix(path, "[]"); ok {
		list, _ := at.([]any)
		if len(list) == 0 {
			return []any{with(nil, rest, value)}
		}
		list = slices.Clone(list)
		list[len(list)-1] = with(list[len(list)-1], rest, value)
		return list
	}
	path = strings.TrimPrefix(strings.Replace(path, "{}", ".k", 1), ".")
	name, rest := path, ""
	if end := strings.IndexAny(path, ".[{"); end >= 0 {
		name, rest = path[:end], path[end:]
	}
	out := map[string]any{}
	object, _ := at.(map[string]any)
	for k, v := range object {
		out[k] = v
	}
	out[name] = with(out[name], rest, value)
	return out
}

// effect is what a change of one member does.
type effect struct{ digests, limits, refused bool }

func effectOf(t *testing.T, base map[string]any, path string, a, b any) effect {
	t.Helper()
	var digests [2][2][48]byte
	var limits [2]string
	for i, v := range []any{a, b} {
		c, err := Parse(encode(t, with(base, path, v)), "docker")
		if err != nil {
			return effect{refused: true}
		}
		l, err := Normalise(c, c.ID(), Rules{}, Known{})
		if err != nil {
			return effect{refused: true}
		}
		digests[i], limits[i] = bothOf(t, l), string(encode(t, l.Limits))
	}
	return effect{digests: digests[0] != digests[1], limits: limits[0] != limits[1]}
}

// bases are configurations in which each member has an effect, if it has any: docker's
// without its own hook, with a bind or a file system of the kernel's as the last mount.
func bases(t *testing.T) []map[string]any {
	t.Helper()
	var out []map[string]any
	for _, last := range []any{mount("/data", "bind", "/srv/data", "rbind"), mount("/t", "tmpfs", "tmpfs", "mode=700")} {
		c := config(t, "docker")
		drop("hooks")(c)
		add("mounts", last)(c)
		add("linux.namespaces", map[string]any{"type": "user"})(c)
		add("linux.resources.devices", map[string]any{"allow": true, "type": "c", "major": 7, "minor": 7, "access": "r"})(c)
		set("linux.devices", []any{map[string]any{"path": "/dev/x", "type": "c", "major": 7, "minor": 7}})(c)
		out = append(out, c)
	}
	return out
}

// What a change of a member does is what the table says, member by member. A change
// that does nothing is dropped, or is a limit.
func TestEachMemberCounts(t *testing.T) {
	bases := bases(t)
	rows := map[string]*row{}
	for path, r := range leaves() {
		rows[path] = r
	}
	n, silent := 0, 0
	for _, l := range leavesOf(reflect.TypeFor[specs.Spec](), "") {
		r := rows[l.path]
		if r == nil {
			t.Errorf("%s is not in the table", l.path)
			continue
		}
		var all effect
		a, b := l.values()
		for _, base := range bases {
			e := effectOf(t, base, l.path, a, b)
			all = effect{all.digests || e.digests, all.limits || e.limits, all.refused || e.refused}
		}
		want := effect{digests: r.fate != dropped && r.fate != limit, limits: r.fate == limit}
		if all != want {
			t.Errorf("%s is %s: %+v", l.path, r.fate, all)
		}
		n++
		if !all.digests {
			silent++
		}
	}
	t.Logf("%d members, of which %d change no digest", n, silent)
}

// What the specification does not know is in the launch digest: a member of a later
// version, one whose name differs in case, one that is there twice, a value of another
// form. Its place is where power finds it.
func TestUnknownMembers(t *testing.T) {
	base := encode(t, bases(t)[0])
	parse := func(raw []byte) (*Asked, [2][48]byte) {
		t.Helper()
		c, err := Parse(raw, "docker")
		if err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		l, err := Normalise(c, c.ID(), Rules{}, Known{})
		if err != nil {
			t.Fatal(err)
		}
		return l.Asked, bothOf(t, l)
	}
	plain, none := parse(base)
	if len(plain.Unknown) > 0 {
		t.Error(plain.Unknown)
	}
	const process, linux = `"process":{`, `"linux":{`
	for path, test := range map[string]struct{ after, member string }{
		"fooBar":                          {"{", `"fooBar":%s,`},
		"process.fooBar":                  {process, `"fooBar":%s,`},
		"process.user.fooBar":             {`"user":{`, `"fooBar":{"a":[%s]},`},
		"linux.resources.fooBar":          {`"resources":{`, `"fooBar":[%s],`},
		"linux.resources.memory.fooBar":   {`"memory":{`, `"fooBar":%s,`},
		"linux.seccomp.fooBar":            {`"seccomp":{`, `"fooBar":%s,`},
		"root.fooBar":                     {`"root":{`, `"fooBar":%s,`},
		"Linux":                           {"{", `"Linux":{"rootfsPropagation":%s},`},
		"process.ARGS":                    {process, `"ARGS":["x",%s],`},
		"windows":                         {"{", `"windows":{"x":%s},`},
		"linux.personality":               {linux, `"personality":[%s],`},
		"linux.personality.flags":         {linux, `"personality":{"flags":%s},`},
		"linux.netDevices{}":              {linux, `"netDevices":{"eth0":%s},`},
		`"process.args"`:                  {"{", `"process.args":%s,`},
		`process."a:\"[]{}"`:              {process, `"a:\"[]{}":%s,`},
		"doubled:hostname":                {"{", `"hostname":%s,`},
		"doubled:linux.rootfsPropagation": {linux, `"rootfsPropagation":"private","rootfsPropagation":%s,`},
		"mounts[].fooBar":                 {`"mounts":[{`, `"fooBar":%s,`},
		"ociVersion":                      {`"ociVersion":`, `%s,"b":`},
		"linux.namespaces[].type":         {`"namespaces":[`, `{"type":%s},`},
	} {
		seen := map[[2][48]byte]string{none: "nothing"}
		for _, value := range []string{`"cwA"`, `"cwB"`} {
			text := strings.Replace(string(base), test.after, test.after+fmt.Sprintf(test.member, value), 1)
			asked, digests := parse([]byte(text))
			if asked.Unknown[path] == nil {
				t.Errorf("%s: not among %s", path, encode(t, asked.Unknown))
			}
			if other, ok := seen[digests]; ok {
				t.Errorf("%s: %s and %s have the same digests", path, other, value)
			}
			seen[digests] = value
		}
	}
}

// What no JSON of the launch can hold as it stands keeps all its bytes.
func TestForm(t *testing.T) {
	deep := strings.Repeat("[", 20) + strings.Repeat("]", 20)
	for raw, want := range map[string]string{
		`{"b":[1,null,true],"a":"x"}`: `{"a":"x","b":[1,null,true]}`,
		"9007199254740992":            "9007199254740992",
		"9007199254740993":            `"9007199254740993"`,
		"-9007199254740993":           `"-9007199254740993"`,
		"1.50":                        `"1.50"`,
		"1e400":                       `"1e400"`,
		`"\ud800"`:                    `{"b64":"7aCA"}`,
		"\"\xff\"":                    `{"b64":"/w=="}`,
		`{"a":1,"a":2}`:               `{"b64":"eyJhIjoxLCJhIjoyfQ=="}`,
		deep:                          string(inBase64([]byte(deep))),
	} {
		if got := form(jsontext.Value(raw)); string(got) != want {
			t.Errorf("%s: %s, want %s", raw, got, want)
		}
	}
}

// What an engine's user could make endless has a bound, and a name has to be one.
func TestUnknownMembersAreBounded(t *testing.T) {
	many := strings.Builder{}
	for i := range maxUnknown + 1 {
		fmt.Fprintf(&many, `"x%d":0,`, i)
	}
	large := fmt.Sprintf(`"mounts":[{"destination":%q,`, strings.Repeat("x", maxPath-1))
	for i := range maxUnknown {
		large += fmt.Sprintf(`"x%d":%q,`, i, strings.Repeat("y", 64))
	}
	for name, text := range map[string]string{
		"many":  many.String(),
		"large": large + `"type":""}],`,
		"name":  "\"\xff\":0,",
		"half":  `"\ud800":0,`,
	} {
		if _, err := Parse([]byte("{"+text+`"process":{},"linux":{}}`), ""); err == nil || len(err.Error()) > 300 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Any JSON has a canonical form that is a form of itself, and no two values share it.
func FuzzForm(f *testing.F) {
	for _, seed := range []string{`{"a":[1,"x",null,true,{}]}`, "9007199254740993", `"\ud800"`, "\"\xff\"", `{"a":1,"a":2}`, "-0", "1e5", "1.0", ` [ 1 , 2 ] `, `"\u0061"`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		raw := jsontext.Value(text)
		if !raw.IsValid(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)) {
			return
		}
		raw = bytes.TrimSpace(raw)
		once := form(raw)
		if err := canonical.CheckForm(once, maxDepth+1); err != nil {
			t.Fatalf("%q: %s: %v", raw, once, err)
		}
		if twice := form(once); string(twice) != string(once) {
			t.Fatalf("%q: %s, and then %s", raw, once, twice)
		}
		n := 0
		if kind := raw.Kind(); kind == '{' || kind == '[' {
			for _, child := range children(raw) {
				n += len(child)
				if !child.IsValid(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)) {
					t.Fatalf("%q has the child %q", raw, child)
				}
			}
		}
		if n > len(raw) {
			t.Fatalf("%q: its children are longer", raw)
		}
	})
}
