package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func debs(t *testing.T, dist string) {
	dpkg := need(t, "dpkg-deb")
	for name := range contents {
		deb := filepath.Join(dist, name+"_"+testVersion+"-1_amd64.deb")
		if _, err := os.Stat(deb); err != nil {
			deb = strings.Replace(deb, "amd64", "arm64", 1)
		}
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
		for _, field := range []string{"Depends", "Pre-Depends", "Recommends", "Suggests"} {
			if strings.Contains(run(t, ".", dpkg, "-f", deb, field), "cimad-sim") {
				t.Errorf("%s: %s pulls in cimad-sim", name, field)
			}
		}
		if name == "cimad" {
			cimadDeb(t, root, control)
		}
	}
}

// plain checks that a file is nobody's but root's to write.
func plain(t *testing.T, path string) error {
	fi, err := os.Lstat(path)
	if err != nil {
		return err
	}
	want := os.FileMode(0o644)
	if strings.Contains(path, "/bin/") || strings.Contains(path, "/sbin/") {
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
		t.Errorf("cimad --version says %q", got)
	}
	config := filepath.Join(root, "etc/cima/cimad.toml")
	if got := run(t, ".", cimad, "--config", config, "--check-config"); got != config+": ok\n" {
		t.Errorf("cimad --check-config says %q", got)
	}
	fi, err := os.Stat(cimad)
	if err != nil {
		t.Fatal(err)
	}
	if fi.Size() >= 15<<20 {
		t.Errorf("cimad has %d bytes, 15 MiB are allowed", fi.Size())
	}
}

func rpms(t *testing.T, dist string) {
	rpm := need(t, "rpm")
	for name := range contents {
		file := rpmFile(t, dist, name)
		sameContents(t, name, strings.Fields(run(t, ".", rpm, "-qpl", file)))
		if pulled := run(t, ".", rpm, "-qp", "--requires", "--recommends", "--suggests", file); strings.Contains(pulled, "cimad-sim") {
			t.Errorf("%s pulls in cimad-sim", name)
		}
		if name != "cimad" {
			continue
		}
		got := strings.Fields(run(t, ".", rpm, "-qp", "--qf", `[%{FILENAMES} %{FILEFLAGS:fflags}\n]`, file))
		for _, f := range conffiles {
			if at := slices.Index(got, f); at < 0 || at+1 == len(got) || got[at+1] != "cn" {
				t.Errorf("%s is not config(noreplace)", f)
			}
		}
		for _, tag := range []string{"POSTIN", "PREUN", "POSTUN"} {
			script := run(t, ".", rpm, "-qp", "--qf", "%{"+tag+"}", file)
			c := exec.Command("sh", "-n")
			c.Stdin = strings.NewReader(script)
			if out, err := c.CombinedOutput(); err != nil || !strings.Contains(script, "cimad.service") {
				t.Errorf("%s: %v %s\n%s", tag, err, out, script)
			}
		}
	}
}

func rpmFile(t *testing.T, dist, name string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dist, name+"-"+testVersion+"-1.*.rpm"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%s: %d rpms, %v", name, len(files), err)
	}
	return files[0]
}

// The rpms install into a root of their own and verify there.
func rpmRoot(t *testing.T, dist string) {
	rpm := need(t, "rpm")
	if os.Geteuid() != 0 {
		t.Skip("left out: rpm --root needs root")
	}
	root := t.TempDir()
	args := []string{"--root", root, "--dbpath", "/db", "--nodeps", "--noscripts", "-i"}
	for name := range contents {
		args = append(args, rpmFile(t, dist, name))
	}
	run(t, ".", rpm, args...)
	for name := range contents {
		if out := run(t, ".", rpm, "--root", root, "--dbpath", "/db", "--nodeps", "-V", name); out != "" {
			t.Errorf("rpm -V %s: %s", name, out)
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
			if err != nil || len(files) != map[string]int{"lintian": 4, "rpmlint": 3}[tool[0]] {
				t.Fatal(files, err)
			}
			run(t, ".", path, append(tool[1:], files...)...)
		})
	}
}
