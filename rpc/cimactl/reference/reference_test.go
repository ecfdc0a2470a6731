package reference

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/rpc/cimactl/command"
)

// try runs a verb, and returns its exit code.
func try(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	root := &cobra.Command{Use: "policy", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(Commands()...)
	var out, errors bytes.Buffer
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(&errors)
	code = command.Report(&errors, root.Execute())
	return code, out.String(), errors.String()
}

func write(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// image is a layout, and the same image as `docker save` writes it.
func image(t *testing.T) (layout, archive, config, manifest string) {
	t.Helper()
	layer := tarOf(t, map[string]string{"etc/passwd": "root:x:0:0::/:/bin/sh\n"})
	text := []byte(`{"config":{"User":"0"},"rootfs":{"diff_ids":["sha256:` + sum(layer) + `"]}}`)
	list := fmt.Appendf(nil, `{"config":{"digest":"sha256:%s"},"layers":[{"digest":"sha256:%s"}]}`, sum(text), sum(layer))
	index := fmt.Appendf(nil, `{"manifests":[{"digest":"sha256:%s"}]}`, sum(list))
	layout = write(t, "layout/index.json", index)
	for _, blob := range [][]byte{layer, text, list} {
		path := filepath.Join(filepath.Dir(layout), "blobs/sha256", sum(blob))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, blob, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	archive = write(t, "saved.tar", tarOf(t, map[string]string{"c.json": string(text), "l.tar": string(layer), "manifest.json": `[{"Config":"c.json","RepoTags":["x:1"],"Layers":["l.tar"]}]`}))
	return filepath.Dir(layout), archive, "sha256:" + sum(text), "sha256:" + sum(list)
}

func tarOf(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestAddImage(t *testing.T) {
	layout, archive, config, manifest := image(t)
	for name, c := range map[string]struct {
		args []string
		want []string
	}{
		"a layout":  {[]string{layout}, []string{config + `",  # configuration, computed from layout`, manifest + `",  # manifest`}},
		"a save":    {[]string{archive + ":1"}, []string{config + `",  # configuration, computed from saved.tar:1`}},
		"a digest":  {[]string{"--digest", config, "--origin", "cosign, key K"}, []string{config + `",  # cosign, key K`}},
		"an origin": {[]string{"--digest", config, "--origin", "a\nb = 1"}, []string{"# a?b = 1"}},
	} {
		code, out, stderr := try(t, append([]string{"add-image", "my app"}, c.args...)...)
		for _, want := range c.want {
			if code != 0 || !strings.Contains(out, want) {
				t.Errorf("%s: %d, %s%s, want %q", name, code, out, stderr, want)
			}
		}
		if _, err := policy.Parse("p", []byte("cima_policy = 2\n"+out+"[[container]]\nname = \"x\"\nimage = \"my app\"\n")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]struct {
		code int
		args []string
	}{
		"nothing": {1, nil}, "of nobody": {1, []string{"--digest", config}}, "no digest": {1, []string{"--origin", "x"}},
		"not there": {1, []string{"/nowhere"}}, "no image": {5, []string{write(t, "x", []byte("no image at all"))}},
		"short": {5, []string{"--digest", "sha256:12", "--origin", "x"}}, "identity": {1, []string{write(t, "i.json", []byte(`{"digest":"`+config+`"}`))}},
	} {
		if code, out, stderr := try(t, append([]string{"add-image", "x"}, c.args...)...); code != c.code || out != "" || stderr == "" {
			t.Errorf("%s: %d, %s%s", name, code, out, stderr)
		}
	}
}

func TestAddPublished(t *testing.T) {
	digest := func(c string) string { return `"` + strings.Repeat(c, 96) + `"` }
	file := write(t, "values.json", []byte(`{"publisher":"us","hardware":{"m1":{"mrtd":[`+digest("1")+`],"rtmr0":`+digest("2")+`}},"code":{"v1":{"rtmr1":`+digest("3")+`,"rtmr2":`+digest("4")+`,"line":"ro roothash=`+strings.Repeat("6f", 32)+`","host_input":["none"]}}}`))
	code, out, stderr := try(t, "add-published", file, "--origin", "key K")
	if code != 0 || !strings.Contains(out, "# values.json, published by us: key K\nrtmr1 = "+digest("3")) || !strings.Contains(out, `root = "verity"`) {
		t.Errorf("%d, %s%s", code, out, stderr)
	}
	text := "cima_policy = 2\n" + out + "[[boot]]\nname = \"x\"\nfirmware = \"m1\"\nsystem = \"v1\"\n"
	if _, err := policy.Parse("p", []byte(text)); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
	if code, out, _ := try(t, "add-published", file); code != 1 || out != "" {
		t.Errorf("values of nobody: %d, %s", code, out)
	}
	if code, _, _ := try(t, "add-published", write(t, "x.json", []byte(`{"publisher":"us","mrtd":"x"}`)), "--origin", "x"); code != 5 {
		t.Errorf("unknown members: %d", code)
	}
}

func TestAddGoogleRefused(t *testing.T) {
	file := write(t, "e", []byte("no endorsement"))
	for want, args := range map[string][]string{
		"--root must be there":   {"x", file},
		"must be a certificate":  {"x", file, "--root", file},
		"must be a time as 2026": {"x", file, "--root", root(t), "--at", "noon"},
		"no launch endorsement":  {"x", file, "--root", root(t)},
	} {
		if code, out, stderr := try(t, append([]string{"add-google"}, args...)...); code == 0 || out != "" || !strings.Contains(stderr, want) {
			t.Errorf("%q: %d, %s%s", args, code, out, stderr)
		}
	}
}
