package match

import (
	"crypto/sha512"
	"encoding/json/jsontext"
	"fmt"
	"strings"
	"testing"

	"github.com/cima-project/cima/hw/verify/tables"
)

func read(t testing.TB, text string) (Match, error) {
	t.Helper()
	table, err := tables.Read("m", []byte(text), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	m := Read(table, nil, make(Leaves))
	table.Done()
	return m, table.Errors()
}

// Each comparison, against values that meet it and values that don't.
func TestComparisons(t *testing.T) {
	for _, c := range []struct{ want, meets, not string }{
		{`"a"`, `"a"`, `"b" 1 null ["a"] {"a":1} -`},
		{`1`, `1 "1" 1.0`, `2 "2" true "1.5" -`},
		{`9007199254740993`, `"9007199254740993"`, `9007199254740992 "9007199254740992" -`},
		{`true`, `true`, `false "true" 1 -`},
		{`false`, `false -`, `true 0 ""`},
		{`""`, `"" -`, `"a" false`},
		{`0`, `0 "0"`, `1 false -`},
		{`[]`, `[] -`, `["a"] {}`},
		{`["a", 1]`, `["a",1]`, `["a"] [1,"a"] ["a",1,2] -`},
		{`[{ x = 1 }]`, `[{"x":1}] [{"x":1,"y":2}]`, `[{"x":2}] [{}] []`},
		{`{ any = ["a", 1] }`, `"a" 1`, `"b" 2 -`},
		{`{ any = [] }`, ``, `"a" -`},
		{`{ any = ["", "a"] }`, `"" "a" -`, `"b"`},
		{`{ prefix = "ab" }`, `"ab" "abc"`, `"a" "xab" 1 -`},
		{`{ at_most = 3 }`, `3 -1 "2"`, `4 "4" "x" true -`},
		{`{ absent = true }`, `-`, `"" null 0 []`},
		{`{ only = ["a", "b"] }`, `["a"] [] ["b","a","a"] - {"a":1}`, `["c"] ["a","c"] "a" {"c":1}`},
		{`{ only = [{ x = { prefix = "a" } }] }`, `[{"x":"ab"}] []`, `[{"x":"b"}] [{}] ["a"]`},
		{`{ equal = { x = 1 } }`, `{"x":1}`, `{"x":1,"y":2} {} -`},
		{`{ equal = [1] }`, `[1]`, `[1,2] []`},
		{`{ equal = {} }`, `{} -`, `{"x":1}`},
		{`{ x = 1, y = "" }`, `{"x":1} {"x":1,"y":""} {"x":1,"z":2}`, `{"x":1,"y":"a"} {} -`},
		{`{ absent = true, x = 1 }`, `{"absent":true,"x":1}`, `- {"x":1}`}, // names of members
		{`{ prefix = 1 }`, `{"prefix":1}`, `"1"`},
	} {
		m, err := read(t, "match.v = "+c.want+"\n")
		if err != nil {
			t.Errorf("%s: %v", c.want, err)
			continue
		}
		for list, want := range map[string]bool{c.meets: true, c.not: false} {
			for v := range strings.FieldsSeq(list) {
				text := `{"v":` + v + `}`
				if v == "-" {
					text = `{}`
				}
				root, err := ReadObject(jsontext.Value(text))
				if err != nil {
					t.Fatal(text, err)
				}
				d := NewDocument(root, NewMeter(1000))
				if missing, _ := d.Against(m); (missing == 0) != want || d.MayMeet(m) != want {
					t.Errorf("%s is met by %s: %v", c.want, v, missing == 0)
				}
			}
		}
	}
}

// What is not shown is met by nothing, and may be anything.
func TestUnseen(t *testing.T) {
	for _, want := range []string{`"a"`, `[]`, `{ absent = true }`, `{ any = ["a"] }`, `{ only = [] }`, `{ at_most = 1 }`, `{ prefix = "a" }`, `{ x = 1 }`, `{ equal = {} }`} {
		m, err := read(t, "match.asked.v = "+want+"\n")
		if err != nil {
			t.Fatal(err)
		}
		d := NewDocument(map[string]any{"asked_sha384": "aa"}, NewMeter(0))
		if missing, first := d.Against(m); missing == 0 || !d.MayMeet(m) || !strings.Contains(d.Differs(first), "not shown") {
			t.Errorf("%s: %d missing, may meet %v", want, missing, d.MayMeet(m))
		}
		d = NewDocument(map[string]any{"image": map[string]any{"absent": "gone"}}, NewMeter(0))
		image, _ := read(t, "match.image.digest = "+want+"\n")
		if missing, _ := d.Against(image); missing == 0 {
			t.Errorf("%s is met by an image that nobody knows", want)
		}
	}
}

// A whole environment is met by name and value, or the value's digest, and by no variable
// more.
func TestWholeEnvironment(t *testing.T) {
	mode, prod := `{"name":"MODE","value":"prod"}`, sha512.Sum384([]byte("prod"))
	byDigest := fmt.Sprintf(`{"name":"MODE","sha384":"%x"}`, prod)
	for _, c := range []struct {
		want, environment string
		meets             bool
	}{
		{`{ equal = { MODE = "prod" } }`, mode, true},
		{`{ equal = { MODE = "prod" } }`, byDigest, true},
		{`{ equal = { MODE = { value = "prod" } } }`, mode, true},
		{`{ equal = { MODE = { value = "prod" } } }`, byDigest, false},
		{`{ equal = { MODE = "test" } }`, mode, false},
		{`{ equal = { MODE = "prod" } }`, `{"name":"MODE"}`, false},
		{`{ equal = { MODE = "prod" } }`, `{"name":"MODE","unset":true}`, false},
		{`{ equal = { MODE = "prod" } }`, mode + `,{"name":"LD_PRELOAD","value":"/x.so"}`, false},
		{`{ equal = { MODE = "prod" } }`, mode + `,` + mode, false},
		{`{ equal = { MODE = "prod" } }`, ``, false},
		{`{ equal = { MODE = "prod", X = "1" } }`, mode, false},
		{`{ any = [{ equal = { MODE = "test" } }, { equal = { MODE = "prod" } }] }`, mode, true},
		{`[]`, ``, true},
		{`[]`, mode, false},
		{`{ only = [] }`, `{"name":"DEBUG"}`, false},
		{`{ equal = { list = [1, "2"], MODE = "prod" } }`, mode, false},
	} {
		m, err := read(t, "match.asked.environment = "+c.want+"\n")
		if err != nil {
			t.Fatal(err)
		}
		asked := `{"asked":{"environment":[` + c.environment + `]}}`
		if c.environment == "" {
			asked = `{"asked":{}}` // what is empty is left out
		}
		root, err := ReadObject(jsontext.Value(asked))
		if err != nil {
			t.Fatal(err)
		}
		Launch(root, &Places{})
		if missing, _ := NewDocument(root, NewMeter(1000)).Against(m); (missing == 0) != c.meets {
			t.Errorf("%s is met by %s: %v", c.want, c.environment, missing == 0)
		}
	}
}

// The same comparison at the same place is one leaf, and judged once.
func TestEqualLeavesAreOne(t *testing.T) {
	table, err := tables.Read("m", []byte("match.a = { only = [1, 2] }\nmatch.b = 1\n"), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(Leaves)
	one, two := Read(table, nil, seen), Read(table, nil, seen)
	if len(one) != 2 || one[0] != two[0] || one[1] != two[1] {
		t.Errorf("%v %v", one, two)
	}
	work := NewMeter(0)
	d := NewDocument(map[string]any{"a": []any{1.0, 2.0}, "b": 1.0}, work)
	d.Against(one)
	first := work.Done()
	d.Against(two)
	if again := work.Done() - first; again != 2 {
		t.Errorf("%d steps, then %d", first, again)
	}
}

func FuzzMatch(f *testing.F) {
	f.Add(`match = { v = { any = [1, "a", { only = [] }] } }`, `{"v":[1]}`)
	f.Fuzz(func(t *testing.T, text, value string) {
		table, err := tables.Read("m", []byte(text), 1<<16)
		if err != nil {
			return
		}
		m := Read(table, nil, make(Leaves))
		root, err := ReadObject(jsontext.Value(value))
		if table.Errors() != nil || err != nil {
			return
		}
		Launch(root, &Places{})
		d := NewDocument(root, NewMeter(len(text)+len(value)))
		if missing, _ := d.Against(m); missing == 0 && !d.MayMeet(m) {
			t.Errorf("%s meets %s, and may not", value, m)
		}
		_ = fmt.Sprint(m)
	})
}
