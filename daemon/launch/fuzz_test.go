package launch

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// Whatever is in a config.json: an error, or a launch that has one digest and
// comes back whole from its JSON.
func FuzzFromConfig(f *testing.F) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) < 5 {
		f.Fatal("no bundles in testdata", err)
	}
	for _, name := range files {
		raw, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Add([]byte(`{"process":{"args":["` + "\xff" + `","\ud800"]},"linux":{"cgroupsPath":":::"}}`))
	f.Add([]byte(`{"process":{},"linux":{"seccomp":{"a":1e999,"b":18446744073709551615}},"mounts":[{}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := FromConfig(bytes.NewReader(raw), Rules{Environment: EnvironmentDigest, Labels: []string{"x"}})
		if err != nil {
			return
		}
		form, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		first, err := Digest(l, Image{})
		if err != nil {
			t.Fatalf("a launch without a digest: %v", err)
		}
		var back Launch
		if err := json.Unmarshal(form, &back); err != nil {
			t.Fatalf("%v: %s", err, form)
		}
		second, err := Digest(back, Image{})
		if err != nil || first != second {
			t.Fatalf("the digest changed on the way through JSON: %s", form)
		}
		c, err := parseSpec(raw)
		if err != nil {
			t.Fatal("FromConfig took what parseSpec refuses")
		}
		powers(c, l)
		h := hostTree{root: t.TempDir()}
		marks := h.landmarks("")
		for _, b := range binds(c, "", "/bundle") {
			h.judge(b, marks)
		}
		for _, j := range joins(c) {
			h.hostsNamespace(j)
		}
	})
}
