package tree

import (
	"bytes"
	"encoding/hex"
	json "encoding/json/v2"
	"os"
	"strings"
	"testing"

	"github.com/cima-project/cima/logs/canonical"
	"github.com/cima-project/cima/rpc"
)

// What is proved differs with each thing that it is over.
func TestLeavesDiffer(t *testing.T) {
	seen := map[[64]byte]string{}
	all := map[string]Binding{}
	for _, value := range []string{"x", "y"} {
		for _, role := range []string{"server", "client"} {
			all["session "+value+role] = OfSession([]byte(value), role)
		}
		for _, of := range []string{"https://example.org/v1", "https://example.org/v2"} {
			b, err := Of(of, []byte(value))
			if err != nil {
				t.Fatal(err)
			}
			all[of+value] = b
		}
	}
	for name, b := range all {
		if form, err := canonical.Marshal(jsonOf(t, b)); err != nil || !bytes.Equal(form, b.text) {
			t.Errorf("%s has another form: %s", b.text, form)
		}
		for _, n := range []string{"nonce 12", "nonce 21"} {
			leaf, err := b.leaf([]byte(n))
			if err != nil {
				t.Fatal(err)
			}
			if other, twice := seen[leaf]; twice {
				t.Errorf("%s and %s have one leaf", name, other)
			}
			seen[leaf] = name
		}
	}
}

func jsonOf(t *testing.T, b Binding) (v map[string]any) {
	t.Helper()
	if err := json.Unmarshal(b.text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// What is bound is what cima-access(7) says; trees.json was computed by its words, in no
// language of a client.
func TestVectors(t *testing.T) {
	text, err := os.ReadFile("../vectors/trees.json")
	if err != nil {
		t.Fatal(err)
	}
	type bound struct {
		Profile     string      `json:"profile"`
		Data        string      `json:"data"`
		Exporter    string      `json:"exporter"`
		Role        string      `json:"role"`
		Nonce       string      `json:"nonce"`
		Place       *rpc.Shared `json:"place"`
		ClaimsNonce string      `json:"claims_nonce"`
		UserData    string      `json:"user_data"`
	}
	var all struct {
		Bindings []bound `json:"bindings"`
		Sessions []bound `json:"sessions"`
	}
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	for _, v := range append(all.Bindings, all.Sessions...) {
		b := OfSession(unhex(t, v.Exporter), v.Role)
		if v.Role == "" {
			if b, err = Of(v.Profile, unhex(t, v.Data)); err != nil {
				t.Fatal(err)
			}
		}
		n, data, err := Bound(v.Place, b, unhex(t, v.Nonce))
		if err != nil || hex.EncodeToString(n) != v.ClaimsNonce || string(data) != v.UserData {
			t.Errorf("%s%s: %x, %s, %v", v.Profile, v.Role, n, data, err)
		}
	}
	if len(all.Bindings) < 4 || len(all.Sessions) < 2 {
		t.Error("there are too few")
	}
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Nothing can be bound that could pass for another use, or that has another spelling.
func TestOfRefuses(t *testing.T) {
	for of, data := range map[string]string{
		"": "x", "no scheme": "x", ":x": "x", "a b:c": "x", `a:"`: "x", `a:\`: "x", "a:é": "x", "a:\x7f": "x", "a:\n": "x",
		"a:" + strings.Repeat("x", 255):               "x",
		"https://github.com/cima-project/cima/tls/v1": "x",
		"HTTPS://GITHUB.com/cima-project/x":           "x",
		"https://example.org/empty":                   "",
		"https://example.org/long":                    strings.Repeat("x", 4097),
	} {
		if _, err := Of(of, []byte(data)); err == nil {
			t.Errorf("%.40q with %d bytes is bound", of, len(data))
		}
	}
	b := binding(t, "x")
	for n, good := range map[int]bool{7: false, 8: true, 64: true, 65: false} {
		if _, _, err := Bound(&rpc.Shared{Size: 1}, b, make([]byte, n)); (err == nil) != good {
			t.Errorf("a nonce of %d bytes: %v", n, err)
		}
	}
	if _, _, err := Bound(&rpc.Shared{Size: 1}, Binding{}, nonce); err == nil {
		t.Error("nothing is bound")
	}
	if _, _, err := Bound(&rpc.Shared{Size: 2}, b, nonce); err == nil {
		t.Error("a place without a path is one")
	}
}

// A proof comes out as it went in. What it may not be is refused.
func TestReadProof(t *testing.T) {
	b := binding(t, "x")
	p, err := NewProver(new(container)).Prove(t.Context(), b, nonce)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := ReadProof(text); err != nil || !proves(t, back, b, nonce) {
		t.Errorf("%s: %v", text, err)
	}
	for _, wrong := range []string{
		``, `{}`, `{"evidence":{}}`, `{"tree":{"size":1,"index":0,"path":[]}}`, `{"evidence":{},"tree":null}`,
		`{"evidence":{},"tree":{"size":1,"index":0,"path":[]},"more":1}`, `{"evidence":{},"tree":{"size":0,"index":0,"path":[]}}`,
		`{"evidence":{},"evidence":{},"tree":{"size":1,"index":0,"path":[]}}`, strings.Repeat(" ", 17<<20),
	} {
		if _, err := ReadProof([]byte(wrong)); err == nil {
			t.Errorf("%.80s is a proof", wrong)
		}
	}
	if _, err := ReadPlace([]byte(`{"size":1,"index":0,"path":[]` + strings.Repeat(" ", 2048) + `}`)); err == nil {
		t.Error("a place without a bound is read")
	}
}

func FuzzReadProof(f *testing.F) {
	f.Add([]byte(`{"evidence":{},"tree":{"size":1,"index":0,"path":[]}}`))
	f.Add([]byte(`{"tree":{"size":4096,"index":4095,"path":[""]},"evidence":null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := ReadProof(text)
		if err != nil {
			return
		}
		b, err := Of("a:b", []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		if n, data, err := p.Bound(b, nonce); err == nil && (len(n) != nonceSize || len(data) > rpc.MaxUserData) {
			t.Errorf("%d and %d bytes", len(n), len(data))
		}
	})
}
