//go:build packages

package packaging

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// spireContents are the files of cima-spire; a deb has /usr/share/doc/cima-spire where an
// rpm has licences.
var spireContents = []string{
	"/usr/libexec/cima/cima-spire", "/usr/share/doc/cima-spire/examples/agent.conf", "/usr/share/doc/cima-spire/examples/server.conf",
	"/usr/share/man/man7/cima-spire.7.gz",
}

// The packages of SPIRE's plug-ins are installed in a root of their own, the plug-ins take
// the examples there, and removal leaves nothing.
func TestSpirePackages(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	dir := tree(t)
	run(t, dir, "packaging/spire/package.sh")
	deb := filepath.Join(dir, "dist", "cima-spire_"+testVersion+"-1_"+runtime.GOARCH+".deb")
	rpm := rpmFile(t, filepath.Join(dir, "dist"), "cima-spire")
	t.Run("deb", func(t *testing.T) { spireDeb(t, dir, deb) })
	t.Run("rpm", func(t *testing.T) { spireRPM(t, dir, rpm) })
	t.Run("lintian", func(t *testing.T) { run(t, ".", need(t, "lintian"), "--fail-on=error,warning", "--allow-root", deb) })
	t.Run("rpmlint", func(t *testing.T) { run(t, ".", need(t, "rpmlint"), "-c", "rpm/rpmlintrc.toml", rpm) })
}

func spireDeb(t *testing.T, dir, deb string) {
	dpkg := need(t, "dpkg")
	if os.Geteuid() != 0 {
		t.Skip("left out: dpkg --root needs root")
	}
	root := t.TempDir()
	const database = "/var/lib/dpkg"
	for _, name := range []string{"info", "updates", "triggers"} {
		if err := os.MkdirAll(filepath.Join(root, database, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put(t, filepath.Join(root, database, "status"), nil)
	run(t, ".", dpkg, "--root="+root, "--install", deb)
	spireInstalled(t, dir, root, database, "/usr/share/doc/cima-spire/NOTICE", "/usr/share/doc/cima-spire/changelog.Debian.gz", "/usr/share/doc/cima-spire/changelog.gz",
		"/usr/share/doc/cima-spire/copyright", "/usr/share/lintian/overrides/cima-spire")
	if status := run(t, ".", dpkg, "--root="+root, "--verify", "cima-spire"); status != "" {
		t.Errorf("dpkg --verify prints %s", status)
	}
	run(t, ".", dpkg, "--root="+root, "--purge", "cima-spire")
	if left := under(t, root, database); len(left) > 0 {
		t.Errorf("purge leaves %q", left)
	}
	if known := string(read(t, filepath.Join(root, database, "status"))); strings.Contains(known, "cima-spire") {
		t.Errorf("dpkg still knows it: %s", known)
	}
}

func spireRPM(t *testing.T, dir, file string) {
	rpm := need(t, "rpm")
	if os.Geteuid() != 0 {
		t.Skip("left out: rpm --root needs root")
	}
	root := t.TempDir()
	do := func(args ...string) string {
		t.Helper()
		return run(t, ".", rpm, append([]string{"--root", root, "--dbpath", "/db", "--nodeps"}, args...)...)
	}
	do("-i", file)
	spireInstalled(t, dir, root, "/db", "/usr/share/licenses/cima-spire/LICENSE", "/usr/share/licenses/cima-spire/NOTICE")
	if said := do("-V", "cima-spire"); said != "" {
		t.Errorf("rpm -V prints %s", said)
	}
	do("-e", "cima-spire")
	if left := under(t, root, "/db"); len(left) > 0 {
		t.Errorf("removal leaves %q", left)
	}
}

// spireInstalled checks what is installed in a root, where more is there besides.
func spireInstalled(t *testing.T, dir, root, database string, more ...string) {
	t.Helper()
	want := slices.Sorted(slices.Values(slices.Concat(spireContents, more)))
	if got := under(t, root, database); !slices.Equal(got, want) {
		t.Errorf("it has\n%s\nand must have\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got := run(t, ".", filepath.Join(root, "usr/libexec/cima/cima-spire"), "--version"); got != "cima-spire "+testVersion+"\n" {
		t.Errorf("cima-spire --version prints %q", got)
	}
	notice := ""
	for _, path := range more {
		if filepath.Base(path) == "NOTICE" {
			notice = string(read(t, filepath.Join(root, path)))
		}
	}
	for _, module := range strings.Split(strings.TrimSpace(string(read(t, filepath.Join(dir, "dist/stage/cima-spire/modules")))), "\n") {
		name, _, _ := strings.Cut(module, " ")
		if name != "github.com/cima-project/cima" && !strings.Contains(notice, "\n==== "+name+" ") {
			t.Errorf("NOTICE lacks %s", name)
		}
	}
	run(t, filepath.Join(dir, "packaging/spire"), "go", "test", "-count=1", "-run=TestExamples", ".", "-args", "-root", root)
}

// under are the files and links below a root, outside a package manager's database.
func under(t *testing.T, root, database string) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		path = strings.TrimPrefix(path, root)
		switch {
		case err != nil:
			return err
		case path == database:
			return fs.SkipDir
		case !e.IsDir():
			paths = append(paths, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(paths)
	return paths
}
