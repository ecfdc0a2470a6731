package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cima-project/cima/rpc/vectors"
)

// TestVerifyMany: whatever the number of jobs, each result is that of the evidence alone,
// in the order of the evidence, and the exit code is the gravest.
func TestVerifyMany(t *testing.T) {
	_, bundles, err := vectors.Load(filepath.Join("..", "vectors"))
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join("..", "vectors", "bundles", "root.pem")
	alone := func(args ...string) (string, int) {
		t.Helper()
		var out bytes.Buffer
		code := run(t.Context(), append([]string{"verify", "--trust-root", root, "--at", "2026-11-30T00:00:00Z"}, args...), strings.NewReader(""), &out, &out)
		return out.String(), code
	}
	type verdict struct {
		Verdict string `json:"verdict"`
		Reason  string `json:"reason"`
	}
	var text bytes.Buffer
	var want []verdict
	for _, b := range bundles {
		file := filepath.Join("..", "vectors", b.File)
		bundle, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		out, _ := alone(file, "--nonce", b.Nonce, "--json")
		var v verdict
		if err := json.Unmarshal([]byte(out), &v); err != nil {
			t.Fatalf("%s: %v: %s", b.File, err, out)
		}
		want = append(want, v)
		fmt.Fprintf(&text, `{"name":%q,"nonce":%q,"evidence":%s}`+"\n", b.File, b.Nonce, bytes.ReplaceAll(bytes.TrimSpace(bundle), []byte("\n"), nil))
	}
	stream := filepath.Join(t.TempDir(), "stream")
	if err := os.WriteFile(stream, text.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, jobs := range []string{"1", "2", "7"} {
		out, code := alone("--lines", stream, "--jobs", jobs, "--json")
		if code != 5 {
			t.Errorf("exit %d among malformed evidence", code)
		}
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if len(lines) != len(want) {
			t.Fatalf("%d results of %d\n%s", len(lines), len(want), out)
		}
		for i, l := range lines {
			var got struct {
				Name, Error string
				Result      verdict
			}
			if err := json.Unmarshal([]byte(l), &got); err != nil {
				t.Fatalf("%v: %.200s", err, l)
			}
			// A member that is there twice makes the line malformed, and not only the evidence.
			if got.Name != bundles[i].File && !strings.HasPrefix(got.Name, "line ") {
				t.Errorf("result %d is of %s", i, got.Name)
			}
			if got.Error != "" && want[i].Verdict == "malformed" {
				continue
			}
			if got.Error != "" || got.Result != want[i] {
				t.Errorf("%s: %s%+v, alone %+v", bundles[i].File, got.Error, got.Result, want[i])
			}
		}
	}
	first := filepath.Join("..", "vectors", bundles[0].File)
	out, code := alone(first, first, filepath.Join("..", "vectors", "none.json"), "--nonce", bundles[0].Nonce)
	if lines := strings.Split(strings.TrimSpace(out), "\n"); code != 4 || len(lines) != 3 || !strings.HasPrefix(lines[0], first+": authentic, not trusted: ") ||
		!strings.Contains(lines[2], "none.json: error: open ") {
		t.Errorf("exit %d\n%s", code, out)
	}
}

func TestLinesThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		text, flags string
		code        int
		says        string
	}{
		"no JSON":        {"x\n", "", 5, "line 1"},
		"no evidence":    {`{"nonce":"00112233445566778899"}` + "\n", "", 5, "evidence"},
		"no nonce":       {`{"evidence":{}}` + "\n", "", 5, "nonce"},
		"empty nonce":    {`{"nonce":"","evidence":{}}` + "\n", "", 1, "a nonce must be given"},
		"stdin's nonce":  {`{"nonce":"-","evidence":{}}` + "\n", "", 1, "must be a line of stdin, which is empty"},
		"unknown member": {`{"nonce":"0011223344556677","evidence":{},"policy":1}` + "\n", "", 5, "policy"},
		"twice":          {`{"nonce":"0011223344556677","nonce":"0011223344556677","evidence":{}}` + "\n", "", 5, "nonce"},
		"nothing":        {"", "", 0, ""},
		"bad jobs":       {"", "--jobs 0", 1, "--jobs must be at least 1"},
		"and a nonce":    {"", "--nonce 0011223344556677", 1, "--lines must come without --nonce"},
		"and evidence":   {"", "evidence.json", 1, "--lines must come without EVIDENCE"},
	} {
		var out bytes.Buffer
		args := append([]string{"verify", "--lines", "-"}, strings.Fields(c.flags)...)
		if code := run(t.Context(), args, strings.NewReader(c.text), &out, &out); code != c.code || !strings.Contains(out.String(), c.says) {
			t.Errorf("%s: exit %d, not %d, or no %q in %s", name, code, c.code, c.says, &out)
		}
	}
}
