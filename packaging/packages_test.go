//go:build packages

package packaging

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const testVersion = "1.2.3+4.gabcdef0"

// tree copies the source as a release tarball has it: no history, and the
// version in a file.
func tree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	files := strings.Split(run(t, "..", "git", "ls-files", "-z"), "\x00")
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join("..", f))
		if f == "" || os.IsNotExist(err) {
			continue // removed, and not committed yet
		}
		fi, statErr := os.Stat(filepath.Join("..", f))
		if err != nil || statErr != nil {
			t.Fatal(err, statErr)
		}
		to := filepath.Join(dir, f)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, b, fi.Mode()); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "VERSION"), []byte(testVersion+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// built makes the packages and returns dist/.
func built(t *testing.T, dir string) string {
	t.Helper()
	run(t, dir, "packaging/build.sh")
	return filepath.Join(dir, "dist")
}

// packages returns the files of dist/ by name.
func packages(t *testing.T, dist string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for _, pattern := range []string{"*.deb", "*.rpm", "*.tar.gz", "*.oci.tar", "*.whl", "*.crate", "SHA256SUMS"} {
		files, err := filepath.Glob(filepath.Join(dist, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("no %s in dist: %v", pattern, err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			out[filepath.Base(f)] = b
		}
	}
	return out
}

// Two builds, in two folders, at two times, are equal byte by byte.
func TestPackages(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	here := tree(t)
	there := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.CopyFS(there, os.DirFS(here)); err != nil {
		t.Fatal(err)
	}
	dist := built(t, here)
	first := packages(t, dist)
	second := first
	if *whole {
		second = packages(t, built(t, there))
	}
	// cimactl is also built for arm64, and for three systems other than Linux
	want := 16
	for _, maker := range []string{"python3", "cargo"} { // of the wheel and the crate
		if _, err := exec.LookPath(maker); err == nil {
			want++
		}
	}
	if len(first) != want || len(second) != want {
		t.Errorf("dist must have five debs, five rpms, three archives, two images, the checksums, and with python3 and cargo a wheel and a crate: it has %d and %d files, not %d", len(first), len(second), want)
	}
	for name, b := range first {
		if !bytes.Equal(b, second[name]) {
			t.Errorf("%s differs between two builds", name)
		}
		if name == "SHA256SUMS" {
			continue
		}
		sum := sha256.Sum256(b)
		if line := hex.EncodeToString(sum[:]) + "  " + name + "\n"; !bytes.Contains(first["SHA256SUMS"], []byte(line)) {
			t.Errorf("SHA256SUMS lacks %q", line)
		}
	}
	t.Run("deb", func(t *testing.T) { debs(t, dist) })
	t.Run("python deb", func(t *testing.T) { pythonDeb(t, dist) })
	t.Run("rpm", func(t *testing.T) { rpms(t, dist) })
	t.Run("image", func(t *testing.T) { cimactlImage(t, dist) })
	t.Run("plug-in's image", func(t *testing.T) { image(t, dist, "cima-device-plugin", "google.golang.org/grpc") })
	t.Run("wheel", func(t *testing.T) { wheel(t, dist) })
	t.Run("crate", func(t *testing.T) { crate(t, dist) })
	t.Run("archives", func(t *testing.T) { archives(t, dist) })
	t.Run("rpm in a root of its own", func(t *testing.T) { rpmRoot(t, dist) })
	t.Run("lint", func(t *testing.T) { lint(t, dist) })
}

// contents of each package, without documentation and overrides.
var contents = map[string][]string{
	"cimad": {
		"/etc/apparmor.d/abstractions/cima", "/etc/cdi/cima.yaml", "/etc/cima/cimad.toml",
		"/usr/lib/sysctl.d/10-cima.conf", "/usr/lib/systemd/system-preset/85-cima.preset",
		"/usr/lib/systemd/system/cima-imds.service", "/usr/lib/systemd/system/cima-imds.socket", "/usr/lib/systemd/system/cima-metrics.service", "/usr/lib/systemd/system/cima-metrics.timer", "/usr/lib/systemd/system/cima.slice", "/usr/lib/systemd/system/cimad-admin.socket", "/usr/lib/systemd/system/cimad-lookup.socket", "/usr/lib/systemd/system/cimad.service", "/usr/lib/systemd/system/cimad.socket",
		"/usr/lib/sysusers.d/cima.conf",
		"/usr/lib/tmpfiles.d/cima.conf", "/usr/libexec/cima/cima-imds", "/usr/sbin/cimad",
		"/usr/share/cima/no-gate.conf", "/usr/share/cima/no-homes.conf", "/usr/share/cima/qgs.conf", "/usr/share/cima/rootless.conf", "/usr/share/cima/systemd-252.conf", "/usr/share/cima/usr.sbin.cimad",
		"/usr/share/man/man5/cimad.toml.5.gz", "/usr/share/man/man7/cima-api.7.gz", "/usr/share/man/man7/cima-from-05.7.gz",
		"/usr/share/man/man8/cimad.8.gz", "/usr/share/selinux/packages/cima.cil",
	},
	"cimactl": {
		"/usr/bin/cimactl", "/usr/share/bash-completion/completions/cimactl", "/usr/share/fish/vendor_completions.d/cimactl.fish",
		"/usr/share/man/man1/cimactl.1.gz", "/usr/share/man/man5/cima-policy.5.gz", "/usr/share/man/man7/cima-access.7.gz", "/usr/share/man/man7/cima-evidence.7.gz", "/usr/share/man/man7/cima-platforms.7.gz", "/usr/share/man/man7/cima-reference-values.7.gz", "/usr/share/man/man7/cima-relying-party.7.gz", "/usr/share/zsh/_cimactl",
	},
	"cimad-sim": {"/usr/bin/cimad-sim", "/usr/share/man/man8/cimad-sim.8.gz"},
}

// conffiles belong to the administrator.
var conffiles = []string{"/etc/apparmor.d/abstractions/cima", "/etc/cdi/cima.yaml", "/etc/cima/cimad.toml"}

// Debian's package of cimad has the SELinux module, and rpm has a package of its own for it.
// Presets are Fedora's own, and it has no AppArmor.
var (
	notInRPM    = []string{"/usr/share/selinux/packages/cima.cil"}
	notInFedora = append(notInRPM, "/etc/apparmor.d/abstractions/cima", "/usr/lib/systemd/system-preset/85-cima.preset", "/usr/share/cima/usr.sbin.cimad")
)

// sameContents compares a list of paths with the package's expected contents, less some.
func sameContents(t *testing.T, name string, paths []string, less ...string) {
	t.Helper()
	want := slices.DeleteFunc(slices.Clone(contents[name]), func(path string) bool { return slices.Contains(less, path) })
	var got []string
	for _, p := range paths {
		p = strings.NewReplacer("/zsh/vendor-completions/", "/zsh/", "/zsh/site-functions/", "/zsh/").Replace(p)
		if strings.HasPrefix(p, "/lib/") { // Debian before 13
			p = "/usr" + p
		}
		if !strings.Contains(p, "/usr/share/doc/") && !strings.Contains(p, "/lintian/") && !strings.Contains(p, "/licenses/") && !strings.Contains(p, "/.build-id/") {
			got = append(got, p)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%s holds\n%s\nand must hold\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
