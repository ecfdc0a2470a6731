package reference

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/logs/boot/boottest"
)

// scripts are those of cima-reference-values(7), THE WALK, in its order: compute and check.
func scripts(t *testing.T) [2]string {
	t.Helper()
	page, err := os.ReadFile("../../../man/cima-reference-values.7.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^        set -eu\n(?:        .*\n)+`).FindAllString(string(page), -1)
	if len(found) != 2 {
		t.Fatalf("the page has %d scripts", len(found))
	}
	for i := range found {
		found[i] = regexp.MustCompile(`(?m)^        `).ReplaceAllString(found[i], "")
	}
	return [2]string{found[0], found[1]}
}

// The manual's example, as it stands there: a release whose values changed fails unless
// the change is in the same commit.
func TestReleaseWhoseValuesChanged(t *testing.T) {
	dir := t.TempDir()
	put := func(name string, data []byte) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "bin", "cimactl"), "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	uki := func(line string) []byte {
		return boottest.Program(boottest.Section{Name: ".sdmagic", Data: []byte("#### LoaderInfo: systemd-stub 257.1 ####")},
			boottest.Section{Name: ".linux", Data: boottest.Kernel("k")}, boottest.Section{Name: ".cmdline", Data: []byte(line)})
	}
	_, archive, _, _ := image(t)
	saved, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	both := scripts(t)
	put("reference/compute", []byte(both[0]))
	put("reference/check", []byte(both[1]))
	put("reference/computed.toml", nil)
	put("reference/ours.toml", []byte("[[container]]\nname = \"web\"\nimage = \"web\"\n"))
	put("OVMF.fd", boottest.Firmware(boottest.Parts()))
	put("shop.efi", uki("ro console=ttyS0"))
	put("web.tar", saved)
	check := func() (string, error) {
		c := exec.Command("sh", "reference/check")
		c.Dir = dir
		c.Env = append(os.Environ(), "PATH="+filepath.Join(dir, "bin")+string(os.PathListSeparator)+os.Getenv("PATH"))
		out, err := c.CombinedOutput()
		return string(out), err
	}
	commit := func() {
		t.Helper()
		if err := os.Rename(filepath.Join(dir, "computed.new"), filepath.Join(dir, "reference/computed.toml")); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := check(); err == nil || !strings.Contains(out, "nobody announced it") {
		t.Fatalf("the first release: %v, %s", err, out)
	}
	commit()
	if out, err := check(); err != nil {
		t.Fatalf("nothing changed: %v, %s", err, out)
	}
	if _, err := policy.Load(filepath.Join(dir, "policy.toml")); err != nil {
		t.Error(err)
	}
	put("shop.efi", uki("rw console=ttyS0"))
	if out, err := check(); err == nil || !strings.Contains(out, "+line = \"rw console=ttyS0\"") {
		t.Errorf("another line: %v, %s", err, out)
	}
	commit()
	if out, err := check(); err != nil {
		t.Errorf("announced: %v, %s", err, out)
	}
}
