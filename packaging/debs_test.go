//go:build packages

package packaging

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func debs(t *testing.T, dist string) {
	for name := range contents {
		oneDeb(t, dist, name)
	}
}

// oneDeb checks a package of dist/.
func oneDeb(t *testing.T, dist, name string) {
	dpkg := need(t, "dpkg-deb")
	deb := filepath.Join(dist, name+"_"+testVersion+"-1_"+runtime.GOARCH+".deb")
	root, control := t.TempDir(), t.TempDir()
	run(t, ".", dpkg, "-x", deb, root)
	run(t, ".", dpkg, "-e", deb, control)
	var paths []string
	err := filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			paths = append(paths, strings.TrimPrefix(path, root))
			return plain(t, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	sameContents(t, name, paths)
	hasNotices(t, name, filepath.Join(root, "usr/share/doc", name, "NOTICE"))
	for _, field := range []string{"Depends", "Pre-Depends", "Recommends", "Suggests"} {
		if strings.Contains(run(t, ".", dpkg, "-f", deb, field), "cimad-sim") {
			t.Errorf("%s: %s pulls in cimad-sim", name, field)
		}
	}
	if name == "cimad" {
		cimadDeb(t, root, control)
	}
}

// plain checks that only root can write a file.
func plain(t *testing.T, path string) error {
	fi, err := os.Lstat(path)
	if err != nil {
		return err
	}
	want := os.FileMode(0o644)
	if strings.Contains(path, "/bin/") || strings.Contains(path, "/sbin/") || strings.Contains(path, "/libexec/") {
		want = 0o755
	}
	if fi.Mode() != want {
		t.Errorf("%s has mode %v, not %v", path, fi.Mode(), want)
	}
	return nil
}

func cimadDeb(t *testing.T, root, control string) {
	b, err := os.ReadFile(filepath.Join(control, "conffiles"))
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Fields(string(b))
	slices.Sort(got)
	if !slices.Equal(got, conffiles) {
		t.Errorf("conffiles are %q, not %q", got, conffiles)
	}
	for _, script := range []string{"postinst", "prerm", "postrm"} {
		run(t, ".", "sh", "-n", filepath.Join(control, script))
	}
	cimad := filepath.Join(root, "usr/sbin/cimad")
	if got := run(t, ".", cimad, "--version"); got != "cimad "+testVersion+"\n" {
		t.Errorf("cimad --version prints %q", got)
	}
	config := filepath.Join(root, "etc/cima/cimad.toml")
	if got := run(t, ".", cimad, "--config", config, "--check-config"); got != config+": ok\n" {
		t.Errorf("cimad --check-config prints %q", got)
	}
	fi, err := os.Stat(cimad)
	if err != nil {
		t.Fatal(err)
	}
	if fi.Size() >= 15<<20 {
		t.Errorf("cimad has %d bytes, and must have at most 15 MiB", fi.Size())
	}
}

// Archives hold the program for their system, and no user name and no time.
func archives(t *testing.T, dist string) {
	for platform, magic := range map[string]string{"darwin-amd64": "\xcf\xfa\xed\xfe\x07", "darwin-arm64": "\xcf\xfa\xed\xfe\x0c", "windows-amd64": "MZ"} {
		name, program := "cimactl-"+testVersion+"-"+platform, "cimactl"
		if strings.HasPrefix(platform, "windows") {
			program += ".exe"
		}
		dir := t.TempDir()
		run(t, ".", "tar", "-C", dir, "-xzf", filepath.Join(dist, name+".tar.gz"))
		hasNotices(t, "cimactl", filepath.Join(dir, name, "NOTICE"))
		for _, f := range []string{"LICENSE", "cimactl.1", "cima-policy.5", "cima-access.7", "cima-evidence.7", "cima-relying-party.7", "cima-reference-values.7", "cima-platforms.7", program} {
			b, err := os.ReadFile(filepath.Join(dir, name, f))
			if err != nil || f == program && !strings.HasPrefix(string(b), magic) {
				t.Errorf("%s: %s: %v, begins with %.5q", name, f, err, b)
			}
		}
	}
}

func lint(t *testing.T, dist string) {
	for _, tool := range [][]string{
		{"lintian", "--fail-on=error,warning", "--allow-root"},
		{"rpmlint", "-c", "rpm/rpmlintrc.toml"},
	} {
		t.Run(tool[0], func(t *testing.T) {
			path := need(t, tool[0])
			pattern := map[string]string{"lintian": "*.deb", "rpmlint": "*.rpm"}[tool[0]]
			files, err := filepath.Glob(filepath.Join(dist, pattern))
			if err != nil || len(files) != map[string]int{"lintian": 5, "rpmlint": 5}[tool[0]] {
				t.Fatal(files, err)
			}
			run(t, ".", path, append(tool[1:], files...)...)
		})
	}
}

// hasNotices checks that a package's NOTICE has every text of what is linked.
func hasNotices(t *testing.T, program, path string) {
	t.Helper()
	if want := run(t, ".", "sh", "licenses.sh", program); string(read(t, path)) != want {
		t.Errorf("%s must hold the licences of what is linked into %s", path, program)
	}
}
