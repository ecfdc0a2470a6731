package logs

import (
	"encoding/base64"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cima-project/cima/logs/canonical"
	"github.com/cima-project/cima/logs/pcr"
)

// The bytes are hashed: an empty member must stay where it is written, and absent where
// it is not.
func TestBodiesInJSON(t *testing.T) {
	digest := canonical.Digest{0xab}
	hex := digest.String()
	key := AgentKey(slices.Repeat([]byte{0xff}, 32))
	for _, c := range []struct {
		body any
		want string
	}{
		{StartBody{"0.6", digest, key, "b", nil}, `{"agent_key":"` + base64.StdEncoding.EncodeToString(key) + `","boot_id":"b","executable":"` + hex + `","version":"0.6"}`},
		{StartBody{"0.6", digest, key, "b", &RegisterBody{13, pcr.Value{}.WithSHA384(digest).Form()}}, `{"agent_key":"` + base64.StdEncoding.EncodeToString(key) + `","boot_id":"b","executable":"` + hex + `","register":{"first":{"sha384":"` + hex + `"},"pcr":13},"version":"0.6"}`},
		{PolicyBody{digest, []string{}, []string{}, []string{}}, `{"data":[],"data_read":[],"public":[],"sha384":"` + hex + `"}`},
		{PolicyBody{digest, []string{"/srv"}, []string{"/usr/share"}, []string{"API_URL"}}, `{"data":["/srv"],"data_read":["/usr/share"],"public":["API_URL"],"sha384":"` + hex + `"}`},
		{MountedBody{Mounts: []MountedPlace{{"/d", map[string]any{"b64": "/w=="}}}}, `{"mounts":[{"destination":"/d","place":{"b64":"/w=="}}]}`},
		{MountedBody{MountsSHA384: &digest}, `{"mounts_sha384":"` + hex + `"}`},
		{SealBody{Engines: []string{}}, `{"engines":[],"running":0}`},
		{SealBody{[]string{"docker"}, 2}, `{"engines":["docker"],"running":2}`},
		{SystemBody{"/bin/sshd", "ab", []any{"sshd", map[string]any{"b64": "/w=="}}}, `{"argv":["sshd",{"b64":"/w=="}],"path":"/bin/sshd","sha384":"ab"}`},
		{SystemBody{Argv: []any{}}, `{"path":"","sha384":""}`},
		{PowerBody{[]string{"privileged"}}, `{"classes":["privileged"]}`},
		{ExecBody{}, `{}`},
		{ExecBody{"/bin/<&>", &digest, "sha256:aa", true, true, "why", "sha256:bb"},
			`{"digest":"sha256:bb","late":true,"missed":"why","path":"/bin/<&>","sha384":"` + hex + `","verity":"sha256:aa","writable":true}`},
		{ExtendBody{"d", "o", ""}, `{"content":"","domain":"d","operation":"o"}`},
		{MissedBody{MissedExec, "why", 0}, `{"count":0,"what":"exec","why":"why"}`},
		{IMABody{0, 3, digest}, `{"count":3,"from":0,"sha384":"` + hex + `"}`},
	} {
		if got, err := canonical.Marshal(c.body); err != nil || string(got) != c.want {
			t.Errorf("%T: %s, %v\nwant %s", c.body, got, err, c.want)
		}
		back := reflect.New(reflect.TypeOf(c.body))
		if err := json.Unmarshal([]byte(c.want), back.Interface()); err != nil {
			t.Errorf("%T: %v", c.body, err)
		} else if again, err := canonical.Marshal(back.Interface()); err != nil || string(again) != c.want {
			t.Errorf("%T read back: %s, %v\nwant %s", c.body, again, err, c.want)
		}
	}
}

func TestAgentKey(t *testing.T) {
	want := AgentKey(slices.Repeat([]byte{0x7f}, 32))
	text, err := want.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	var got AgentKey
	if err := got.UnmarshalText(text); err != nil || !slices.Equal(got, want) {
		t.Errorf("%x, %v", got, err)
	}
	for _, bad := range []string{
		"", "AA==", string(text) + "\n", strings.Replace(string(text), "f", "\nf", 1),
		strings.TrimRight(string(text), "="), string(text[:len(text)-2]) + "9=", base64.URLEncoding.EncodeToString(slices.Repeat([]byte{0xff}, 32)),
		base64.StdEncoding.EncodeToString(make([]byte, 33)),
	} {
		if err := got.UnmarshalText([]byte(bad)); err == nil || !strings.Contains(err.Error(), "must be 32 bytes") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
