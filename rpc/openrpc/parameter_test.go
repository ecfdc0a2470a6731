package openrpc

import (
	"encoding/base64"
	"encoding/json/jsontext"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/cima-project/cima/rpc"
)

// The tags of parameters agree with the constants, which callers use.
func TestParameters(t *testing.T) {
	bounds := func(s schema) string {
		at := func(n *int) any {
			if n == nil {
				return "-"
			}
			return *n
		}
		return fmt.Sprint(s.Type, s.MinLength, s.MaxLength, at(s.Minimum), at(s.Maximum), s.Enum)
	}
	nonce, data := schema{Type: "string", MinLength: 12, MaxLength: 88}, schema{Type: "string", MaxLength: 5464}
	flag, container := schema{Type: "boolean"}, parameter{"container_id", false, text(1, rpc.MaxContainerID)}
	for _, v := range []struct {
		of   rpc.Params
		want []parameter
	}{
		{new(rpc.NoParams), []parameter{}},
		{new(rpc.CCMeasurementParams), []parameter{{"index", true, number(0, rpc.MaxIndex)}, {"algo_id", false, number(rpc.AlgoSHA384, rpc.AlgoSHA384)}}},
		{new(rpc.CCEventLogParams), []parameter{{"start", false, number(0, 1<<31-1)}, {"count", false, number(1, rpc.MaxEventCount)}}},
		{new(rpc.CCReportParams), []parameter{{"nonce", true, nonce}, {"user_data", false, data}, {"shared", false, flag}}},
		{new(rpc.EvidenceParams), []parameter{{"nonce", true, nonce}, {"user_data", false, data},
			{"format", false, schema{Type: "string", Enum: []string{rpc.FormatCIMA, "trustee", "trustee-request", "cmw", "cmw-cbor", "cel", "cel-tlv"}}}, {"shared", false, flag}}},
		{new(rpc.ExtendParams), []parameter{{"domain", true, text(1, rpc.MaxExtendWord)}, {"operation", true, text(1, rpc.MaxExtendWord)}, {"content", true, text(0, rpc.MaxExtendContent)}}},
		{new(rpc.StatusParams), []parameter{{"metrics", false, flag}}},
	} {
		for _, admin := range []bool{false, true} {
			got, want := parameters(v.of, admin), v.want
			if admin {
				want = append([]parameter{container}, want...)
			}
			if len(got) != len(want) {
				t.Fatalf("%T, admin %t: %+v", v.of, admin, got)
			}
			for i, p := range got {
				if p.name != want[i].name || p.required != want[i].required || bounds(p.schema) != bounds(want[i].schema) {
					t.Errorf("%T, admin %t: %s is %s, want %s %s", v.of, admin, p.name, bounds(p.schema), want[i].name, bounds(want[i].schema))
				}
			}
		}
	}
}

func text(least, most int) schema   { return schema{Type: "string", MinLength: least, MaxLength: most} }
func number(least, most int) schema { return schema{Type: "integer", Minimum: &least, Maximum: &most} }

// allows reports whether a string is as a schema wants it.
func (s schema) allows(v string) bool {
	one := len(s.AnyOf) == 0
	for _, of := range s.AnyOf {
		one = one || of.allows(v)
	}
	n := utf8.RuneCountInString(v)
	return one && n >= s.MinLength && (s.MaxLength == 0 || n <= s.MaxLength) && regexp.MustCompile(s.Pattern).MatchString(v)
}

// What a schema allows the server takes, and nothing else: each length of base64 with each
// ending, and each character of a word and of a line.
func TestSchemasAreWhatIsChecked(t *testing.T) {
	same := func(p rpc.Params, name string, v string, others string) {
		t.Helper()
		value, err := jsontext.AppendQuote(nil, v)
		if err != nil {
			t.Fatal(err)
		}
		at := slices.IndexFunc(parameters(p, false), func(p parameter) bool { return p.name == name })
		refused := rpc.DecodeParams(fmt.Appendf(nil, "{%q:%s%s}", name, value, others), p)
		if allowed := parameters(p, false)[at].schema.allows(v); allowed != (refused == nil) {
			t.Errorf("%s of %d bytes, %.20q…%q: the schema allows it: %t, the server says: %v", name, len(v), v, v[max(0, len(v)-4):], allowed, refused)
		}
	}
	lengths := []int{1000, 4091, 4092, 4093, 4094, 4095, 4096, 4097, 4098, 4099}
	for n := range 80 {
		lengths = append(lengths, n)
	}
	for _, n := range lengths {
		good := base64.StdEncoding.EncodeToString(make([]byte, n))
		for _, v := range []string{good, strings.TrimRight(good, "="), good + "=", strings.Replace(good, "A=", "B=", 1), strings.Replace(good, "AA", "-_", 1), good + "\n"} {
			same(new(rpc.CCReportParams), "nonce", v, "")
			same(new(rpc.EvidenceParams), "user_data", v, `,"nonce":"AAECAwQFBgc="`)
		}
	}
	for r := range rune(0x3100) {
		same(new(rpc.ExtendParams), "domain", "a"+string(r)+"b", `,"operation":"o","content":"c"`)
		same(new(rpc.ExtendParams), "content", "a"+string(r)+"b", `,"operation":"o","domain":"d"`)
	}
	for _, n := range []int{0, 1, 128, 129} {
		same(new(rpc.ExtendParams), "operation", strings.Repeat("w", n), `,"domain":"d","content":"c"`)
	}
}
