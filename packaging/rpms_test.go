//go:build packages

package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func rpms(t *testing.T, dist string) {
	rpm := need(t, "rpm")
	module := filepath.Join(dist, "cima-selinux-"+testVersion+"-1.noarch.rpm")
	const loaded = "/usr/share/selinux/packages/cima.cil"
	if files := run(t, ".", rpm, "-qpl", module); files != "/usr/share/licenses/cima-selinux/LICENSE\n"+loaded+"\n" {
		t.Errorf("cima-selinux holds %s", files)
	}
	if post := run(t, ".", rpm, "-qp", "--qf", "%{POSTIN}", module); !strings.Contains(post, "semodule -X 200 -i "+loaded) {
		t.Errorf("cima-selinux must load its module: %s", post)
	}
	for name := range contents {
		file := rpmFile(t, dist, name)
		sameContents(t, name, strings.Fields(run(t, ".", rpm, "-qpl", file)), notInRPM...)
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
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	files, err := filepath.Glob(filepath.Join(dist, name+"-"+testVersion+"-1."+arch+".rpm"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%s: %d rpms, %v", name, len(files), err)
	}
	return files[0]
}

// machine is a root of its own with a shell. Its systemd records what it is
// asked to do, and reports that SELinux is off.
func machine(t *testing.T) (root string, asked func() string) {
	t.Helper()
	root = t.TempDir()
	busybox := need(t, "busybox")
	b, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write("bin/busybox", string(b))
	for _, name := range []string{"bin/sh", "bin/rm"} {
		if err := os.Symlink("/bin/busybox", filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"usr/lib/systemd/systemd-update-helper", "usr/bin/systemd-tmpfiles"} {
		write(name, "#!/bin/sh\necho ${0##*/} \"$@\" >>/asked\n")
	}
	// Of its version it says nothing: systemd is new enough (TestDropInOfOldSystemd has others).
	write("usr/bin/systemctl", "#!/bin/sh\n[ \"$1\" = --version ] || echo systemctl \"$@\" >>/asked\n")
	write("dev/null", "")
	write("usr/sbin/selinuxenabled", "#!/bin/sh\nexit 1\n")
	return root, func() string {
		said, _ := os.ReadFile(filepath.Join(root, "asked"))
		os.Remove(filepath.Join(root, "asked"))
		return string(said)
	}
}

// The rpms install into a root of their own, verify there, are installed again
// as an upgrade does, and are removed; their scripts do the right things.
func rpmRoot(t *testing.T, dist string) {
	rpm := need(t, "rpm")
	if os.Geteuid() != 0 {
		t.Skip("left out: rpm --root needs root")
	}
	root, asked := machine(t)
	const units = " cimad.socket cimad-admin.socket cimad-lookup.socket cimad.service\n"
	do := func(want string, args ...string) {
		t.Helper()
		if said := run(t, ".", rpm, append([]string{"--root", root, "--dbpath", "/db", "--nodeps"}, args...)...); said != "" {
			t.Errorf("rpm %q printed %s", args, said)
		}
		if got := asked(); got != want {
			t.Errorf("rpm %q asked systemd for\n%s\nand must ask for\n%s", args, got, want)
		}
	}
	var files []string
	for name := range contents {
		files = append(files, rpmFile(t, dist, name))
	}
	do("systemd-update-helper install-system-units"+units+"systemd-tmpfiles --create cima.conf\n", append([]string{"-i"}, files...)...)
	for name := range contents {
		do("", "-V", name)
		hasNotices(t, name, filepath.Join(root, "usr/share/licenses", name, "NOTICE"))
	}
	// paths that exist only while the daemon runs
	for _, dir := range []string{"run/cima", "run/cima-admin", "run/log/cima"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	config := filepath.Join(root, "etc/cima/cimad.toml")
	if err := os.WriteFile(config, []byte("# mine\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	do("systemd-tmpfiles --create cima.conf\nsystemd-update-helper mark-restart-system-units cimad.service\n",
		"-U", "--replacepkgs", rpmFile(t, dist, "cimad"))
	if b, err := os.ReadFile(config); err != nil || string(b) != "# mine\n" {
		t.Errorf("the administrator's configuration is %q after an upgrade: %v", b, err)
	}
	if _, err := os.Stat(filepath.Join(root, "run/log/cima")); err != nil {
		t.Errorf("the log did not outlive an upgrade: %v", err)
	}
	do("systemd-update-helper remove-system-units"+strings.TrimSuffix(units, "\n")+" cima-metrics.timer\nsystemctl clean --what=fdstore cimad.service\n", "-e", "cimad", "cimactl", "cimad-sim")
	// The log explains the registers of this boot: it stays, as it does when a deb is removed.
	if _, err := os.Stat(filepath.Join(root, "run/log/cima")); err != nil {
		t.Errorf("the log must outlive a removal: %v", err)
	}
	for _, gone := range []string{"usr/sbin/cimad", "usr/bin/cimactl"} {
		if _, err := os.Lstat(filepath.Join(root, gone)); !os.IsNotExist(err) {
			t.Errorf("%s must be gone after removal: %v", gone, err)
		}
	}
}
