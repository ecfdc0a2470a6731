//go:build packages

package packaging

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// Distributions build the same files as nfpm packs from the release tarball,
// without a network, and their linters have no complaint.
func TestSourcePackages(t *testing.T) {
	// Half of the build is the same for both, and for other tests.
	t.Setenv("GOCACHE", strings.TrimSpace(run(t, "..", "go", "env", "GOCACHE")))
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	dir := tree(t)
	for _, args := range [][]string{
		{"init", "-q"}, {"add", "-A"},
		{"-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "commit.gpgsign=false", "commit", "-q", "-m", "release"},
	} {
		run(t, dir, "git", args...)
	}
	tarball := func() []byte {
		b, err := os.ReadFile(filepath.Join(dir, strings.TrimSpace(run(t, dir, "packaging/dist.sh"))))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	b := tarball()
	if string(b) != string(tarball()) {
		t.Error("two release tarballs of a commit differ")
	}
	t.Run("deb", func(t *testing.T) { sourceDeb(t, b) })
	t.Run("rpm", func(t *testing.T) { sourceRPM(t, b) })
}

// offline runs a program without a network, save its own loopback.
func offline(t *testing.T, dir string, args ...string) {
	t.Helper()
	alone := []string{"-n"}
	if os.Geteuid() != 0 {
		alone = []string{"-rn"}
	}
	// The packages build with GOTOOLCHAIN=local. Where the machine's Go is older, the Go
	// that runs this test was fetched, and is in no PATH.
	goroot := strings.TrimSpace(run(t, ".", need(t, "go"), "env", "GOROOT"))
	t.Setenv("PATH", filepath.Join(goroot, "bin")+":"+os.Getenv("PATH"))
	run(t, dir, need(t, "unshare"), append(alone, args...)...)
}

func sourceDeb(t *testing.T, tarball []byte) {
	build := need(t, "dpkg-buildpackage")
	for _, tool := range []string{"dh", "dh_golang", "dh_python3", "go-md2man"} {
		need(t, tool)
	}
	dir := t.TempDir()
	put(t, filepath.Join(dir, "cima_"+testVersion+".orig.tar.gz"), tarball)
	run(t, dir, "tar", "-xzf", "cima_"+testVersion+".orig.tar.gz")
	src := filepath.Join(dir, "cima-"+testVersion)
	run(t, src, "cp", "-r", "packaging/debian", "debian")
	run(t, src, "sed", "-i", "1s/(.*)/("+testVersion+"-1)/", "debian/changelog")
	// make proof-debian runs the tests in the build, and links what Debian packages.
	t.Setenv("DEB_BUILD_OPTIONS", "nocheck")
	// -d: Go need not be installed as a package
	offline(t, src, build, "-d", "-us", "-uc", "-F", "-Ppkg.cima.vendored")
	for name := range contents {
		oneDeb(t, dir, name)
	}
	socketsStayOpen(t, filepath.Join(dir, "cimad_"+testVersion+"-1_"+runtime.GOARCH+".deb"))
	pythonDeb(t, dir)
	changes, err := filepath.Glob(filepath.Join(dir, "*.changes"))
	if err != nil || len(changes) != 1 {
		t.Fatal(changes, err)
	}
	// The standards are those of sid, which this machine may be older than.
	run(t, dir, need(t, "lintian"), "--fail-on=error,warning", "--suppress-tags=newer-standards-version", "--allow-root", changes[0])
}

// socketsStayOpen checks what an upgrade restarts: the service, and no socket.
func socketsStayOpen(t *testing.T, deb string) {
	t.Helper()
	control := t.TempDir()
	run(t, ".", need(t, "dpkg-deb"), "-e", deb, control)
	restarted := false
	for _, script := range []string{"preinst", "prerm", "postinst"} {
		b, err := os.ReadFile(filepath.Join(control, script))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		for line := range strings.Lines(text) {
			stops := strings.Contains(line, "restart") || strings.Contains(line, "_dh_action") || strings.Contains(line, " stop ") && script != "prerm"
			restarted = restarted || stops && strings.Contains(line, "cimad.service")
			if stops && strings.Contains(line, ".socket") {
				t.Errorf("%s: an upgrade must leave the sockets open: %s", script, line)
			}
		}
		if script == "prerm" && strings.Contains(text, " stop ") && !strings.Contains(text, `"$1" = remove ]`) {
			t.Errorf("prerm stops units, and not on removal alone:\n%s", text)
		}
	}
	if !restarted {
		t.Error("an upgrade must restart the service")
	}
}

func sourceRPM(t *testing.T, tarball []byte) {
	build, rpm := need(t, "rpmbuild"), need(t, "rpm")
	dir := t.TempDir()
	put(t, filepath.Join(dir, "SOURCES", "cima-"+testVersion+".tar.gz"), tarball)
	spec, err := os.ReadFile("rpm/cima.spec")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(spec), "\nVersion:        0\n", "\nVersion:        "+testVersion+"\n", 1)
	put(t, filepath.Join(dir, "cima.spec"), []byte(text))
	// --nodeps: for the same reason
	offline(t, dir, build, "--define", "_topdir "+dir, "--nodeps", "--without", "check", "-ba", "cima.spec")
	rpms, err := filepath.Glob(filepath.Join(dir, "RPMS", "*", "*.rpm"))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, file := range rpms {
		name := strings.TrimSpace(run(t, dir, rpm, "-qp", "--qf", "%{NAME}", file))
		names[name] = true
		if name == "cima-selinux" || contents[name] == nil && strings.HasPrefix(name, "cim") && strings.Contains(name, "-debug") {
			continue
		}
		for line := range strings.Lines(run(t, "..", "sh", "packaging/rpm/bundled.sh", name)) {
			what := strings.TrimSpace(strings.TrimPrefix(line, "Provides:"))
			if !strings.Contains(run(t, dir, rpm, "-qp", "--provides", file), what+"\n") {
				t.Errorf("%s must provide %s: packaging/rpm/bundled.sh says what a package bundles", name, what)
			}
		}
		files := run(t, dir, rpm, "-qp", "--qf", `[%{FILEMODES:perms} %{FILENAMES}\n]`, file)
		var paths []string
		for line := range strings.Lines(files) {
			var mode, path string
			if _, err := fmt.Sscan(line, &mode, &path); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			if !strings.HasPrefix(mode, "d") {
				paths = append(paths, path)
			}
		}
		sameContents(t, name, paths, notInFedora...)
	}
	for _, name := range []string{"cimad", "cimactl", "cimad-sim", "cima-selinux", "cima-debuginfo"} {
		if !names[name] {
			t.Errorf("the spec must make the package %s: it made %v", name, names)
		}
	}
	source, err := filepath.Glob(filepath.Join(dir, "SRPMS", "*.src.rpm"))
	if err != nil || len(source) != 1 {
		t.Fatal(source, err)
	}
	config, err := filepath.Abs("rpm/rpmlintrc.toml")
	if err != nil {
		t.Fatal(err)
	}
	run(t, dir, need(t, "rpmlint"), append([]string{"-c", config, source[0]}, rpms...)...)
}
