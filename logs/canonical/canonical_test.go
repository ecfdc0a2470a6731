package canonical

import (
	"bytes"
	"crypto/sha512"
	"encoding/json/jsontext"
	"errors"
	"math"
	"strings"
	"testing"
)

// What RFC 8785 shows, and the vectors that its authors publish.
var published = []struct{ name, text, form string }{
	{"RFC 8785, section 3.2.2", `{
		"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
		"string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
		"literals": [null, true, false]
	}`, `{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\u000f\nA'B\"\\\\\"/"}`},
	{"RFC 8785, section 3.2.3", `{
		"\u20ac": "Euro Sign", "\r": "Carriage Return", "\ufb33": "Hebrew Letter Dalet With Dagesh", "1": "One",
		"\ud83d\ude00": "Emoji: Grinning Face", "\u0080": "Control", "\u00f6": "Latin Small Letter O With Diaeresis"
	}`, "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u0080\":\"Control\",\"ö\":\"Latin Small Letter O With Diaeresis\"," +
		"\"€\":\"Euro Sign\",\"😀\":\"Emoji: Grinning Face\",\"\ufb33\":\"Hebrew Letter Dalet With Dagesh\"}"},
	{"arrays", `[56, {"d": true, "10": null, "1": [ ]}]`, `[56,{"1":[],"10":null,"d":true}]`},
	{"French", `{"peach": "This sorting order", "péché": "is wrong according to French", "pêche": "but canonicalization MUST", "sin": "ignore locale"}`,
		`{"peach":"This sorting order","péché":"is wrong according to French","pêche":"but canonicalization MUST","sin":"ignore locale"}`},
	{"structures", `{"1": {"f": {"f": "hi","F": 5} ,"\n": 56.0}, "10": { }, "": "empty", "a": { }, "111": [ {"e": "yes","E": "no" } ], "A": { }}`,
		`{"":"empty","1":{"\n":56,"f":{"F":5,"f":"hi"}},"10":{},"111":[{"E":"no","e":"yes"}],"A":{},"a":{}}`},
	{"not normalised", `{"Unnormalized Unicode":"A\u030a"}`, "{\"Unnormalized Unicode\":\"A\u030a\"}"},
	{"for browsers", `{"</script>": "\u2028&\u0080\u007f"}`, "{\"</script>\":\"\u2028&\u0080\x7f\"}"},
}

func TestPublishedForms(t *testing.T) {
	for _, v := range published {
		form, err := Marshal(jsontext.Value(v.text))
		if err != nil || string(form) != v.form {
			t.Errorf("%s:\ngot  %s (%v)\nwant %s", v.name, form, err, v.form)
		}
		if err := CheckForm([]byte(v.form), MaxDepth); err != nil {
			t.Errorf("%s: %v", v.name, err)
		}
		if err := CheckForm([]byte(v.text), MaxDepth); err == nil {
			t.Errorf("%s: %s is not the form", v.name, v.text)
		}
		if sum, err := Sum(jsontext.Value(v.text)); err != nil || sum != sha512.Sum384([]byte(v.form)) {
			t.Errorf("%s: sum %v, %v", v.name, sum, err)
		}
	}
}

// RFC 8785, appendix B.
func TestNumbers(t *testing.T) {
	for bits, want := range map[uint64]string{
		0x0000000000000000: "0", 0x8000000000000000: "0",
		0x0000000000000001: "5e-324", 0x8000000000000001: "-5e-324",
		0x7fefffffffffffff: "1.7976931348623157e+308", 0xffefffffffffffff: "-1.7976931348623157e+308",
		0x4340000000000000: "9007199254740992", 0xc340000000000000: "-9007199254740992",
		0x4430000000000000: "295147905179352830000",
		0x44b52d02c7e14af5: "9.999999999999997e+22", 0x44b52d02c7e14af6: "1e+23", 0x44b52d02c7e14af7: "1.0000000000000001e+23",
		0x444b1ae4d6e2ef4e: "999999999999999700000", 0x444b1ae4d6e2ef4f: "999999999999999900000", 0x444b1ae4d6e2ef50: "1e+21",
		0x3eb0c6f7a0b5ed8c: "9.999999999999997e-7", 0x3eb0c6f7a0b5ed8d: "0.000001",
		0x41b3de4355555553: "333333333.3333332", 0x41b3de4355555554: "333333333.33333325", 0x41b3de4355555555: "333333333.3333333",
		0x41b3de4355555556: "333333333.3333334", 0x41b3de4355555557: "333333333.33333343",
		0xbecbf647612f3696: "-0.0000033333333333333333", 0x43143ff3c1cb0959: "1424953923781206.2",
	} {
		if form, err := Marshal(math.Float64frombits(bits)); err != nil || string(form) != want {
			t.Errorf("%016x: %s (%v), want %s", bits, form, err, want)
		}
		if err := CheckForm([]byte(want), 0); err != nil {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestWhatAValueIsWrittenAs(t *testing.T) {
	type tagged struct {
		Bool  bool      `json:"bool,omitzero"`
		Int   int       `json:"int,omitzero"`
		Ptr   *uint32   `json:"ptr,omitzero"`
		Empty []string  `json:"empty,omitempty"`
		Text  string    `json:"text,omitempty"`
		Array [2]Digest `json:"-"`
	}
	for _, v := range []struct {
		value any
		want  string
	}{
		{tagged{}, `{}`},
		{tagged{Bool: true, Int: 1, Ptr: new(uint32)}, `{"bool":true,"int":1,"ptr":0}`},
		{[]string(nil), `null`},
		{[]byte(nil), `null`},
		{[]byte{}, `""`},
		{jsontext.Value(nil), `null`},
		{map[string]int(nil), `null`},
		{map[string]int{"b": 1, "a": 2, "A": 3}, `{"A":3,"a":2,"b":1}`},
		{"a\xffb\xed\xa0\x80c", "\"a\uFFFDb\uFFFD\uFFFD\uFFFDc\""},
		{map[string]string{"\xff": "<>&\u2028"}, "{\"\uFFFD\":\"<>&\u2028\"}"},
		{Digest{1, 0xab}, `"01ab` + strings.Repeat("0", 92) + `"`},
		{int64(1) << 53, `9007199254740992`},
		{jsontext.Value(`{"a" : -0, "b":"\u0041"}`), `{"a":0,"b":"A"}`},
	} {
		if form, err := Marshal(v.value); err != nil || string(form) != v.want {
			t.Errorf("%#v: %s (%v), want %s", v.value, form, err, v.want)
		}
	}
}

func TestWhatCantBeWritten(t *testing.T) {
	for name, value := range map[string]any{
		"a number too large":      jsontext.Value(`{"a":[1e400]}`),
		"a whole number too long": jsontext.Value(`9007199254740993`),
		"an int":                  1<<53 + 1,
		"infinity":                math.Inf(1),
		"a name twice":            jsontext.Value(`{"a":1,"a":2}`),
		"not UTF-8":               jsontext.Value("\"\xff\""),
		"half a pair":             jsontext.Value(`"\ud800"`),
		"not JSON":                jsontext.Value(`{"a":`),
		"two names made one":      map[string]int{"\xfe": 1, "\xff": 2},
	} {
		form, err := Marshal(value)
		if ours := new(Error); !errors.As(err, &ours) {
			t.Errorf("%s: %s, %v", name, form, err)
		}
		if sum, err := Sum(value); err == nil || sum != (Digest{}) {
			t.Errorf("%s: sum %v, %v", name, sum, err)
		}
	}
}

// What CheckForm takes is what Marshal writes, and nothing else.
func TestCheckForm(t *testing.T) {
	for _, text := range []string{
		`{}`, `[]`, `""`, `0`, `-0`, `-1`, `1.5`, `1e21`, `1e+21`, `1e+22`, `1E+22`, `1e-7`, `1e-07`, `0.000001`, `0.0000001`, `1e400`, `-1e999`,
		`9007199254740993`, `333333333.3333333`, `5e-324`, `1.7976931348623157e+308`, `01`, `1.0`, `.5`, `+1`, `1_0`, `0x1p4`, `Infinity`, `NaN`, `-`,
		`"\u0000"`, `"\u001f"`, `"\u001F"`, `"\u0008"`, `"\b\t\n\f\r\"\\"`, `"\/"`, `"/"`, `"\u0041"`, "\"\x7f\"", "\"\x1f\"", "\"\xff\"", "\"\xed\xa0\x80\"", `"é€😀"`, `"\ud83d\ude00"`,
		`{"a":1,"b":2}`, `{"b":1,"a":2}`, `{"a":1,"a":2}`, `{"A":1,"a":2}`, "{\"\ufb33\":1,\"😀\":2}", "{\"😀\":1,\"\ufb33\":2}", `{"":1,"a":2}`, `{"\n":1,"1":2}`, `{"1":1,"\n":2}`,
		`{"a" :1}`, `{"a":1,}`, `[1,]`, `[1 ,2]`, `[1,2]`, `true`, `false`, `null`, `truefalse`, `tru`, ``, ` `, `"`, `{`, `{"a"`, `{"a":`, `[`, `nulll`, `{}{}`, "{}\n", "\ufeff{}",
	} {
		sameForm(t, []byte(text))
	}
	deep := bytes.Repeat([]byte("["), 129)
	deep = append(deep, bytes.Repeat([]byte("]"), 129)...)
	if err := CheckForm(deep[1:257], 128); err != nil {
		t.Error(err)
	}
	if err := CheckForm(deep, 128); err == nil || !strings.Contains(err.Error(), "must nest at most 128 deep") {
		t.Error(err)
	}
	if err := CheckForm(bytes.Repeat([]byte("["), 100_000), 128); err == nil {
		t.Error("100,000 deep")
	}
	if err := CheckForm([]byte(`{"a":1,"b":2.0}`), 128); err == nil || err.Error() != "must be canonical JSON (RFC 8785) (byte 12)" {
		t.Error(err)
	}
}

func sameForm(t *testing.T, text []byte) {
	t.Helper()
	err := CheckForm(text, MaxDepth)
	form, merr := Marshal(jsontext.Value(text))
	if is := merr == nil && bytes.Equal(form, text); is != (err == nil) {
		t.Errorf("%q: %v, but Marshal writes %q (%v)", text, err, form, merr)
	}
}

func FuzzCanonical(f *testing.F) {
	for _, v := range published {
		f.Add([]byte(v.text))
		f.Add([]byte(v.form))
	}
	f.Add([]byte(`{"text":"x","bytes":"AQ==","count":3,"open":{"known":1,"Known":2}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		check, spelling, form := Check(text), CheckSpelling(text), CheckForm(text, MaxDepth)
		if check != nil && spelling == nil {
			t.Errorf("%q is spelled well, but %v", text, check)
		}
		for _, err := range []error{check, spelling, form} {
			if err != nil && len(err.Error()) > 4096 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		}
		if again, err := Marshal(jsontext.Value(text)); err == nil {
			if err := CheckForm(again, 10_000); err != nil {
				t.Errorf("%q: Marshal wrote %q, but %v", text, again, err)
			}
		} else if form == nil {
			t.Errorf("%q is in the form, but %v", text, err)
		}
		var v sample
		if err := Unmarshal(text, &v); err == nil {
			if check != nil {
				t.Errorf("%q was read, but %v", text, check)
			}
			if _, err := Marshal(v); err != nil {
				t.Errorf("%q was read, but %v", text, err)
			}
		}
	})
}
