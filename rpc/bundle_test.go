package rpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/cima-project/cima/logs/canonical"
)

const zeroDigest = `"000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"`

// testClaims holds every known member, one unknown one, and characters that
// encoding/json would escape.
var testClaims = `{"profile":"` + ClaimsProfile + `","agent":` + zeroDigest + `,"nonce":"AAECAwQFBgc=","user_data":"",
 "container":{"id":"c1","runtime":"docker","image":"a<b>&\u0001` + "\u2028é" + `","image_digest":"sha256:00",
 "launch_digest":` + zeroDigest + `,"defaults_digest":` + zeroDigest + `,"register":` + zeroDigest + `,
 "assurance":{"start":"gated","pidfd":true,"cgroup_owner":4294967295,"metadata":"bundle"}},
 "boot_log":` + zeroDigest + `,"log":{"count":3,"register":` + zeroDigest + `,"public":` + zeroDigest + `,"anchor":"rtmr3"},
 "later":[1,2.5,-1e-7,{"x":null}]}`

func testEvidence(t testing.TB) (*Evidence, []byte) {
	e := &Evidence{
		Profile: EvidenceProfile, TEE: "tdx", Quote: []byte("quote"),
		Claims:         json.RawMessage(strings.ReplaceAll(testClaims, "\n ", "")),
		Shared:         &Shared{Size: 5, Index: 2, Path: []Digest{{1}, {0xAB, 2}, {3}}},
		AgentSignature: bytes.Repeat([]byte{7}, 64), BootLog: []byte("boot"),
		OSLogs:     []OSLog{{"rtmr2", "ima-ascii", []byte("10 …")}},
		RuntimeLog: []LogEntry{{Event: []byte("e0")}, {Digests: make([]byte, 96)}, {Event: []byte("e3")}},
	}
	b, err := e.AppendJSON(nil)
	if err != nil {
		t.Fatal(err)
	}
	return e, b
}

func TestEvidenceRoundTrip(t *testing.T) {
	e, b := testEvidence(t)
	got, claims, err := DecodeEvidence(b)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, e) {
		t.Errorf("got %+v, want %+v", got, e)
	}
	var want Claims
	if err := json.Unmarshal(e.Claims, &want); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(*claims, want) {
		t.Errorf("got %+v, want %+v", *claims, want)
	}
}

// A bundle has no unchecked bit: each flip is refused, or changes the result
// (or the claims' digest).
func TestEvidenceBitFlips(t *testing.T) {
	e, b := testEvidence(t)
	e.Claims, _ = canonical.Marshal(e.Claims)
	for i := range b {
		for bit := range 8 {
			b[i] ^= 1 << bit
			if got, _, err := DecodeEvidence(b); err == nil {
				form, err := canonical.Marshal(got.Claims)
				if err != nil {
					t.Fatalf("claims that can't be hashed: %v: %s", err, got.Claims)
				}
				if got.Claims = form; reflect.DeepEqual(got, e) {
					t.Errorf("byte %d, bit %d: another text, the same evidence: …%s…", i, bit, b[max(0, i-20):i+10])
				}
			}
			b[i] ^= 1 << bit
		}
	}
}

func TestEvidenceMalformed(t *testing.T) {
	_, good := testEvidence(t)
	for name, change := range map[string][2]string{
		"unknown member":          {`"tee":"tdx"`, `"tee":"tdx","more":1`},
		"twice":                   {`"tee":"tdx"`, `"tee":"tdx","tee":"tdx"`},
		"case variant":            {`"tee":`, `"Tee":`},
		"case variant too":        {`"tee":"tdx"`, `"tee":"tdx","TEE":"tdx"`},
		"missing":                 {`"tee":"tdx",`, ``},
		"wrong type":              {`"tee":"tdx"`, `"tee":1`},
		"null":                    {`"tee":"tdx"`, `"tee":null`},
		"escaped letter":          {`"tdx"`, `"\u0074dx"`},
		"escaped slash":           {`https://`, `https:\/\/`},
		"escaped name":            {`"tee"`, `"te\u0065"`},
		"other profile":           {`evidence/v2`, `evidence/v1`},
		"other claims profile":    {`claims/v2`, `claims/v1`},
		"base64 unpadded":         {`"AAECAwQFBgc="`, `"AAECAwQFBgc"`},
		"base64 trailing bits":    {`"AAECAwQFBgc="`, `"AAECAwQFBgd="`},
		"base64 line break":       {`"AAECAwQFBgc="`, `"AAEC\nAwQFBgc="`},
		"base64url":               {`"AAECAwQFBgc="`, `"-_ECAwQFBgc="`},
		"short nonce":             {`"AAECAwQFBgc="`, `"AAECAwQFBg=="`},
		"number with fraction":    {`"count":3`, `"count":3.0`},
		"number with exponent":    {`"count":3`, `"count":3e0`},
		"negative zero":           {`"count":3`, `"count":-0`},
		"number as text":          {`"count":3`, `"count":"3"`},
		"loose unknown number":    {`2.5`, `2.50`},
		"number beyond a double":  {`2.5`, `9007199254740993`},
		"claims case variant":     {`"anchor"`, `"Anchor"`},
		"claims optional variant": {`"user_data"`, `"User_data"`},
		"container variant":       {`"image":`, `"Image":`},
		"unknown in a log":        {`"format":`, `"more":1,"format":`},
		"claims variant unknown":  {`"x":null`, `"x":null,"X":1`},
		"claims twice":            {`"pidfd":true`, `"pidfd":true,"pidfd":true`},
		"claims deep twice":       {`{"x":null}`, `{"x":null,"x":null}`},
		"upper-case digest":       {`"agent":"0`, `"agent":"A`},
		"uid beyond 32 bits":      {`4294967295`, `4294967296`},
		"host and container":      {`"container":{`, `"host":{"uid":0},"container":{`},
		"digests not 48":          {`"digests":"AAAA`, `"digests":"`},
		"two runs of digests":     {`{"event":"ZTM="}`, `{"digests":"` + strings.Repeat("AAAA", 16) + `"}`},
		"event and digests":       {`{"event":"ZTM="}`, `{"event":"ZTM=","digests":"` + strings.Repeat("AAAA", 16) + `"}`},
		"neither":                 {`{"event":"ZTM="}`, `{}`},
		"empty event":             {`{"event":"ZTM="}`, `{"event":""}`},
		"empty os_logs":           {`"os_logs":[{"register":"rtmr2","format":"ima-ascii","entries":"MTAg4oCm"}]`, `"os_logs":[]`},
		"something behind":        {`]}`, `]}{}`},
		"not UTF-8":               {`"tdx"`, "\"td\xff\""},
		"half a surrogate":        {`"x":null`, `"x":"\ud800"`},
		"control character":       {`"tdx"`, "\"td\x01\""},
		"too deep":                {`"x":null`, `"x":` + strings.Repeat("[", 40) + strings.Repeat("]", 40)},
		"runtime log of strings":  {`{"event":"ZTM="}`, `"event"`},
		"claims are no object":    {`"claims":{`, `"claims":[],"x":{`},
	} {
		bad := strings.Replace(string(good), change[0], change[1], 1)
		if bad == string(good) {
			t.Errorf("%s: nothing was changed", name)
		}
		_, _, err := DecodeEvidence([]byte(bad))
		var malformed *MalformedError
		if !errors.As(err, &malformed) {
			t.Errorf("%s: got %v, want a *MalformedError", name, err)
		}
	}
	if _, _, err := DecodeEvidence(make([]byte, MaxEvidence+1)); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("too large: got %v", err)
	}
}

func FuzzEvidence(f *testing.F) {
	_, good := testEvidence(f)
	f.Add(good)
	f.Add([]byte(`{"claims":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		sameEvidence(t, data)
		sameApart(t, data)
	})
}

// sameEvidence writes evidence, reads it again, and compares the digest of its
// claims.
func sameEvidence(t *testing.T, data []byte) (taken bool) {
	e, _, err := DecodeEvidence(data)
	if err != nil {
		var malformed *MalformedError
		if !errors.As(err, &malformed) {
			t.Fatalf("got %T: %v", err, err)
		}
		return false
	}
	b, err := e.AppendJSON(nil)
	if err != nil {
		t.Fatalf("%q was read, can't be written: %v", data, err)
	}
	if err := e.Claims.Compact(); err != nil { // as it is written
		t.Fatal(err)
	}
	again, _, err := DecodeEvidence(b)
	if err != nil || !reflect.DeepEqual(e, again) {
		t.Fatalf("%q written and read: %v", data, err)
	}
	if _, err := ReportData(e.Claims); err != nil {
		t.Fatalf("%q: claims that can't be hashed: %v", data, err)
	}
	return true
}

func BenchmarkDecodeEvidence(b *testing.B) {
	e, _ := testEvidence(b)
	e.BootLog = make([]byte, 1<<20)
	data, err := e.AppendJSON(nil)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := DecodeEvidence(data); err != nil {
			b.Fatal(err)
		}
	}
}

// readApart takes nothing that the general reader refuses, and reads the same.
func sameApart(t *testing.T, data []byte) (taken bool) {
	t.Helper()
	apart, whole := new(Evidence), new(Evidence)
	taken = readApart(data, apart)
	err := canonical.UnmarshalSpelled(data, whole)
	if taken && err != nil {
		t.Errorf("%q was read apart, but %v", data, err)
	}
	if taken && !reflect.DeepEqual(apart, whole) {
		t.Errorf("%q was read apart as %+v, is %+v", data, apart, whole)
	}
	return taken
}

func TestReadApart(t *testing.T) {
	e, _ := testEvidence(t)
	e.RuntimeLog = []LogEntry{{Event: []byte("a")}, {Event: []byte("bc")}, {Digests: make([]byte, 96)}, {Event: []byte("def")}}
	good, err := e.AppendJSON(nil)
	if err != nil || !sameApart(t, good) {
		t.Fatalf("what AppendJSON writes is not read apart: %v", err)
	}
	e.RuntimeLog = []LogEntry{}
	if empty, err := e.AppendJSON(nil); err != nil || !sameApart(t, empty) {
		t.Errorf("an empty log: %v", err)
	}
	const name, first = `"runtime_log":[`, `{"event":"YQ=="}`
	for about, c := range map[string]struct{ from, to string }{
		"white space":                {name + first, name + " " + first},
		"white space in a record":    {first, `{ "event":"YQ=="}`},
		"white space behind":         {"]}", "]} "},
		"a line break in base64":     {"YQ==", "Y\nQ=="},
		"an escaped digit":           {"YQ==", `\u0059Q==`},
		"loose bits":                 {"YQ==", "YR=="},
		"no padding":                 {"YQ==", "YQ"},
		"nothing":                    {"YQ==", ""},
		"another alphabet":           {"YmM=", "_-M="},
		"another member":             {`"event":"YQ=="`, `"Event":"YQ=="`},
		"two members":                {first, `{"event":"YQ==","digests":""}`},
		"no member":                  {first, `{}`},
		"null":                       {first, `null`},
		"a comma too many":           {first + ",", first + ",,"},
		"a comma at the end":         {"]}", ",]}"},
		"no comma":                   {first + ",", first},
		"a bracket too many":         {"]}", "]}}"},
		"a bracket too few":          {"]}", "]"},
		"another log inside claims":  {`"claims":{`, `"claims":{` + name + `],`},
		"in claims alone":            {name, `"runtime_lag":[`},
		"twice":                      {name, name + `],` + name},
		"a member behind it":         {"]}", `],"tee":"tdx"}`},
		"digests that are too short": {`{"digests":"`, `{"digests":"YQ=="},{"digests":"`},
		"not UTF-8":                  {"YQ==", "Y\xff=="},
		"the name in a string":       {`"tee":"tdx"`, `"tee":"tdx\"runtime_log\":["`},
	} {
		text := strings.Replace(string(good), c.from, c.to, 1)
		if text == string(good) {
			t.Fatalf("%s: nothing was changed", about)
		}
		if sameApart(t, []byte(text)) {
			t.Logf("%s: read apart", about)
		}
	}
}
