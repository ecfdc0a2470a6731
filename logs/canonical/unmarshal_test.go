package canonical

import (
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

type sample struct {
	Text   string            `json:"text"`
	Bytes  []byte            `json:"bytes"`
	Count  int               `json:"count"`
	Small  uint8             `json:"small,omitzero"`
	Flag   *bool             `json:"flag,omitzero"`
	Sum    *Digest           `json:"sum,omitzero"`
	List   []element         `json:"list,omitempty"`
	Names  map[string]string `json:"names,omitempty"`
	Raw    jsontext.Value    `json:"raw,omitempty"`
	Open   *grows            `json:"open,omitzero"`
	Hidden int               `json:"-"`
}

type element struct {
	A int `json:"a"`
}

type grows struct {
	_     Open
	Known int `json:"known"`
	Maybe int `json:"maybe,omitzero"`
}

const least = `"text":"x","bytes":"AQ==","count":3`

func TestUnmarshal(t *testing.T) {
	yes := true
	sum := Digest{0xab}
	for text, want := range map[string]sample{
		` { "count" : 3 , "bytes":"AQ==", "text":"\u0078" } `: {},
		`{` + least + `,"flag":true}`:                         {Flag: &yes},
		`{` + least + `,"sum":"` + sum.String() + `"}`:        {Sum: &sum},
		`{` + least + `,"list":[{"a":1},{"a":-2}]}`:           {List: []element{{1}, {-2}}},
		`{` + least + `,"names":{"a":"b","A":"c"}}`:           {Names: map[string]string{"a": "b", "A": "c"}},
		`{` + least + `,"raw":{"x": [null, 1.5]}}`:            {Raw: jsontext.Value(`{"x": [null, 1.5]}`)},
		`{` + least + `,"open":{"known":1,"later":null}}`:     {Open: &grows{Known: 1}},
	} {
		want.Text, want.Bytes, want.Count = "x", []byte{1}, 3
		var got sample
		if err := Unmarshal([]byte(text), &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	var got sample
	if err := UnmarshalSpelled([]byte(` { "count":3, `+`"bytes":"AQ==" , "text":"x"} `), &got); err != nil {
		t.Error(err)
	}
}

func TestUnmarshalRefuses(t *testing.T) {
	long := strings.Repeat("n", 60_000)
	for text, want := range map[string]string{
		``:                                  "must be JSON: there is no value",
		`null`:                              "must be an object (byte 0)",
		`[]`:                                "must be an object (byte 0)",
		`{` + least + `}x`:                  "must end after the value",
		`{` + least + `} {}`:                "must end after the value",
		`{` + least:                         "must be JSON",
		`{"text":"x","bytes":"AQ=="}`:       `member "count": must be there`,
		`{}`:                                `member "text": must be there`,
		`{` + least + `,"text":"y"}`:        `member "text" appears twice`,
		`{` + least + `,"Text":"y"}`:        `member "Text": must be written "text"`,
		`{"Text":"x"}`:                      `member "Text": must be written "text"`,
		`{` + least + `,"ſmall":1}`:         `member "ſmall": must be written "small"`,
		`{` + least + `,"more":1}`:          `member "more": is not known here`,
		`{"mor":1,"another":1}`:             `must be there; "mor", which is there, is not known here`,
		`{` + least + `,"-":1}`:             `member "-": is not known here`,
		`{"more":1,"text":"x","count":3}`:   `member "bytes": must be there`,
		`{"more":1,` + least + `,"more":1}`: `member "more" appears twice`,
		`{` + least + `,"inner":1}`:         `member "inner": is not known here`,
		`{` + least + `,"` + long + `":1}`:  `is not known here`,
		`{` + least + `,"raw":{"` + long + `":1,"` + long + `":1}}`:                         `appears twice`,
		`{` + least + `,"flag":null}`:                                                       `member "flag": must be true or false`,
		`{` + least + `,"flag":"true"}`:                                                     `member "flag": must be true or false`,
		`{` + least + `,"list":null}`:                                                       `member "list": must be an array`,
		`{` + least + `,"list":[null]}`:                                                     `member "list[0]": must be an object`,
		`{` + least + `,"list":[{"a":1},{}]}`:                                               `member "list[1].a": must be there`,
		`{` + least + `,"list":[{"a":1},{"a":1,"b":[]}]}`:                                   `member "list[1].b": is not known here`,
		`{` + least + `,"list":[{"a":1},{"a":"1"}]}`:                                        `member "list[1].a": must be a whole number`,
		`{` + least + `,"names":{"a":1}}`:                                                   `member "names.a": must be a string`,
		`{` + least + `,"open":{}}`:                                                         `member "open.known": must be there`,
		`{` + least + `,"open":{"later":{"x":1}}}`:                                          `member "open.known": must be there`,
		`{` + least + `,"open":{"known":1,"Maybe":2}}`:                                      `member "open.Maybe": must be written "maybe"`,
		`{` + least + `,"open":{"known":1,"x":2,"X":2}}`:                                    `member "X" differs from "x" in case alone`,
		`{` + least + `,"raw":{"k":2,"\u212a":2}}`:                                          "member \"\u212a\" differs from \"k\" in case alone",
		`{` + least + `,"raw":1e400}`:                                                       `member "raw": must be a number that an IEEE double holds`,
		`{` + least + `,"raw":[9007199254740993]}`:                                          `member "raw[0]": must be a number that an IEEE double holds`,
		`{` + least + `,"raw":"\ud800"}`:                                                    "surrogate",
		"{" + least + ",\"raw\":\"\xff\"}":                                                  "invalid UTF-8",
		"{" + least + ",\"raw\":\"\n\"}":                                                    "must be JSON",
		`{` + least + `,"raw":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`: "must nest at most 32 deep",
		`{` + least + `,"small":256}`:                                                       `member "small": must be in range`,
		`{` + least + `,"small":-1}`:                                                        `member "small": `,
		`{` + least + `,"small":1.0}`:                                                       `member "small": must be a whole number`,
		`{` + least + `,"small":1e0}`:                                                       `member "small": must be a whole number`,
		`{` + least + `,"small":-0}`:                                                        `member "small": must be a whole number`,
		`{` + least + `,"small":"1"}`:                                                       `member "small": must be a whole number`,
		`{` + least + `,"sum":"` + strings.Repeat("A", 96) + `"}`:                           `member "sum": a digest must be in lower-case hex`,
		`{` + least + `,"sum":"00"}`:                                                        `member "sum": a SHA-384 digest must have 96 hex digits, not 2`,
		`{` + least + `,"sum":"` + long + `"}`:                                              `member "sum": a SHA-384 digest must have 96 hex digits, not 60000`,
	} {
		var v sample
		refused(t, Unmarshal([]byte(text), &v), text, want)
	}
	for kind, nested := range map[string]func(int) string{
		"arrays":  func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) },
		"objects": func(n int) string { return strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) },
	} {
		if err := Check([]byte(nested(MaxDepth))); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		refused(t, Check([]byte(nested(MaxDepth+1))), kind, "must nest at most 32 deep")
	}
	for n := range 40 { // a set is made of many names alone
		text := `{"k":1`
		for i := range n {
			text += fmt.Sprintf(`,"n%d":1`, i)
		}
		if err := Check([]byte(text + `}`)); err != nil {
			t.Errorf("%d names: %v", n, err)
		}
		refused(t, Check([]byte(text+`,"K":2}`)), text, `member "K" differs from "k" in case alone`)
		refused(t, Check([]byte(text+`,"\u212a":2}`)), text, "in case alone")
	}
	for _, base64 := range []string{`AR==`, `AAF=`, `A`, `AQ`, `AQ=`, `=`, `====`, `A===`, `AQ==AQ==`, `AQ==\n`, `A\nQ==`, `AQ\u003d=`, `-_-_`, `AQ== `, `\u0041Q==`, long + "n"} {
		var v sample
		refused(t, Unmarshal([]byte(`{"text":"x","count":1,"bytes":"`+base64+`"}`), &v), base64, `member "bytes": must be standard base64 with padding`)
	}
	for text, want := range map[string]string{
		`{"text":"\u0078","bytes":"AQ==","count":3}`: `member "text": must escape a character as RFC 8785 does`,
		`{"te\u0078t":"x","bytes":"AQ==","count":3}`: `member "text": must escape a character as RFC 8785 does`,
		`{` + least + `,"raw":"\/"}`:                 `member "raw": must escape a character as RFC 8785 does`,
		`{` + least + `,"raw":1.0}`:                  `member "raw": must be written 1 (RFC 8785)`,
		`{` + least + `,"raw":{"a":[-0]}}`:           `member "raw.a[0]": must be written 0 (RFC 8785)`,
		`{` + least + `,"raw":1E5}`:                  `member "raw": must be written 100000 (RFC 8785)`,
	} {
		var v sample
		if err := Unmarshal([]byte(text), &v); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		refused(t, UnmarshalSpelled([]byte(text), &v), text, want)
	}
}

func refused(t *testing.T, err error, text, want string) {
	t.Helper()
	ours := new(Error)
	if err == nil || !errors.As(err, &ours) || !strings.Contains(err.Error(), want) || len(err.Error()) > 500 {
		t.Errorf("%.100s: want %q, got %.600v", text, want, err)
	}
}

func BenchmarkUnmarshal(b *testing.B) {
	type params struct {
		Nonce    []byte `json:"nonce"`
		UserData []byte `json:"user_data,omitempty"`
		Format   string `json:"format,omitempty"`
		Shared   bool   `json:"shared,omitzero"`
	}
	text := []byte(`{"nonce":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","user_data":"aGVsbG8=","format":"cima"}`)
	for b.Loop() {
		var p params
		if err := Unmarshal(text, &p); err != nil {
			b.Fatal(err)
		}
	}
}

func TestLimits(t *testing.T) {
	type limited struct {
		Text  string `json:"text,omitempty" within:"2..3"`
		Bytes []byte `json:"bytes,omitempty" within:"1..2"`
		Count int    `json:"count,omitzero" within:"-1..7"`
		Big   int64  `json:"big,omitzero" within:"1.."`
		List  []int  `json:"list,omitempty" within:"1.."`
		Drink string `json:"drink,omitempty" oneof:"tea coffee water"`
		Fixed string `json:"fixed,omitempty" oneof:"one"`
	}
	for text, want := range map[string]string{
		`{"text":"é"}`: ``, `{"text":"aaa"}`: ``, `{"text":"\u00e9a"}`: ``,
		`{"text":""}`:       `member "text": must have 2 to 3 bytes, not 0`,
		`{"text":"aaaa"}`:   `member "text": must have 2 to 3 bytes, not 4`,
		`{"text":"\u0061"}`: `member "text": must have 2 to 3 bytes, not 1`,
		`{"bytes":"AA=="}`:  ``, `{"bytes":"AAA="}`: ``,
		`{"bytes":""}`:     `member "bytes": must have 1 to 2 bytes, not 0`,
		`{"bytes":"AAAA"}`: `member "bytes": must have 1 to 2 bytes, not 3`,
		`{"count":-1}`:     ``, `{"count":7}`: ``,
		`{"count":8}`:                   `member "count": must be a whole number from -1 to 7`,
		`{"count":-2}`:                  `member "count": must be a whole number from -1 to 7`,
		`{"count":"1"}`:                 `member "count": must be a whole number from -1 to 7`,
		`{"count":1e0}`:                 `member "count": must be a whole number from -1 to 7`,
		`{"count":1e300}`:               `member "count": must be a whole number from -1 to 7`,
		`{"count":9223372036854775808}`: `member "count": must be a whole number from -1 to 7`,
		`{"big":0}`:                     `member "big": must be a whole number from 1 to`,
		`{"list":[1]}`:                  ``,
		`{"list":[]}`:                   `member "list": must have at least 1 elements, not 0`,
		`{"drink":"tea"}`:               ``, `{"drink":"\u0074ea"}`: ``,
		`{"drink":""}`:    `member "drink": must be tea, coffee or water`,
		`{"fixed":"two"}`: `member "fixed": must be "one"`,
	} {
		err := Unmarshal([]byte(text), new(limited))
		if want != "" {
			refused(t, err, text, want)
		} else if err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// The members of one object are read into more than one struct.
func TestUnmarshalIntoTwo(t *testing.T) {
	var first struct {
		Name string `json:"name,omitempty"`
	}
	var second element
	if err := Unmarshal([]byte(`{"a":1,"name":"x"}`), &first, &second); err != nil || first.Name != "x" || second.A != 1 {
		t.Error(first, second, err)
	}
	refused(t, Unmarshal([]byte(`{"name":"x"}`), &first, &second), "two", `member "a": must be there`)
	refused(t, Unmarshal([]byte(`{"a":1,"b":2}`), &first, &second), "two", `member "b": is not known here`)
}
