package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// asPackage are the acts of a package manager on the scripts of its package.
type asPackage struct {
	install, upgraded, remove func(t *testing.T, run func(t *testing.T, text, action string))
}

// specScript is a scriptlet of cima.spec.
func specScript(t *testing.T, name string) string {
	t.Helper()
	_, text, ok := strings.Cut(string(read(t, "rpm/cima.spec")), "\n%"+name+" -n cimad\n")
	if !ok {
		t.Fatalf("cima.spec has no %%%s", name)
	}
	// Its macros are Fedora's own, and ask systemd alone.
	text, _, _ = strings.Cut(text, "\n%systemd_")
	return strings.ReplaceAll(text, "\n%", "\n: ")
}

func dropInScripts() map[string]asPackage {
	script := func(name, action string) func(*testing.T, func(*testing.T, string, string)) {
		return func(t *testing.T, run func(*testing.T, string, string)) {
			run(t, string(read(t, "scripts/"+name)), action)
		}
	}
	spec := func(name, action string) func(*testing.T, func(*testing.T, string, string)) {
		return func(t *testing.T, run func(*testing.T, string, string)) { run(t, specScript(t, name), action) }
	}
	return map[string]asPackage{
		"deb":       {script("deb.postinst", "configure"), script("deb.postrm", "upgrade"), script("deb.postrm", "remove")},
		"rpm":       {script("rpm.post", "1"), script("rpm.postun", "1"), script("rpm.postun", "0")},
		"cima.spec": {spec("post", "1"), spec("postun", "1"), spec("postun", "0")},
	}
}

// Where systemd is too old for the unit's type, the packages link the drop-in that makes up
// for it, and take it away again; what an administrator put there stays.
func TestDropInOfOldSystemd(t *testing.T) {
	const ours = "/usr/share/cima/systemd-252.conf"
	for name, c := range map[string]struct {
		systemd     string // what systemctl --version prints; "" where there is none
		there, want string // what the link leads to, before and after; "" where there is none
	}{
		"Ubuntu 22.04":            {"systemd 249 (249.11-0ubuntu3.16)", "", ours},
		"Debian 12":               {"systemd 252 (252.39-1~deb12u1)", "", ours},
		"again":                   {"systemd 252 (252.39-1~deb12u1)", ours, ours},
		"the administrator's":     {"systemd 252 (252.39-1~deb12u1)", "/dev/null", "/dev/null"},
		"253":                     {"systemd 253 (253.5-1)", "", ""},
		"Debian 13":               {"systemd 257 (257.8-1~deb13u2)", "", ""},
		"upgraded":                {"systemd 257 (257.8-1~deb13u2)", ours, ""},
		"upgraded, and not ours":  {"systemd 257 (257.8-1~deb13u2)", "/dev/null", "/dev/null"},
		"no systemd":              {"", "", ""},
		"a version of other form": {"systemd v260", "", ""},
	} {
		for kind, as := range dropInScripts() {
			t.Run(name+"/"+kind, func(t *testing.T) {
				root, tools := t.TempDir(), t.TempDir()
				for _, tool := range []string{"deb-systemd-helper", "deb-systemd-invoke", "systemd-sysusers", "systemd-tmpfiles", "systemctl"} {
					text := "#!/bin/sh\n"
					if tool == "systemctl" && c.systemd == "" {
						text += "exit 127\n"
					} else if tool == "systemctl" {
						text += `[ "$1" != --version ] || echo "` + c.systemd + "\n+PAM +AUDIT\"\n"
					}
					if err := os.WriteFile(filepath.Join(tools, tool), []byte(text), 0o755); err != nil {
						t.Fatal(err)
					}
				}
				dir := filepath.Join(root, "etc/systemd/system/cimad.service.d")
				link := filepath.Join(dir, "systemd-252.conf")
				if c.there != "" {
					if err := os.MkdirAll(dir, 0o755); err != nil {
						t.Fatal(err)
					}
					if err := os.Symlink(c.there, link); err != nil {
						t.Fatal(err)
					}
				}
				script := func(t *testing.T, text, action string) {
					t.Helper()
					// rpm changes its root; here the places that are written have one.
					text = strings.ReplaceAll(text, "dropins=/etc", "dropins="+root+"/etc")
					text = strings.ReplaceAll(text, "/usr/lib/systemd/systemd-update-helper", "/none")
					s := exec.Command("sh", "-c", text, kind, action, "")
					s.Env = []string{"DPKG_ROOT=" + root, "PATH=" + tools + ":" + os.Getenv("PATH")}
					if out, err := s.CombinedOutput(); err != nil || len(out) > 0 {
						t.Fatalf("%s: %v: %s", action, err, out)
					}
				}
				as.install(t, script)
				if got, _ := os.Readlink(link); got != c.want {
					t.Errorf("the link leads to %q, not to %q", got, c.want)
				}
				as.upgraded(t, script)
				if got, _ := os.Readlink(link); got != c.want {
					t.Errorf("after an upgrade the link leads to %q, not to %q", got, c.want)
				}
				as.remove(t, script)
				left, _ := os.Readlink(link)
				if want := c.want; want == ours && left != "" || want != ours && left != want {
					t.Errorf("the removed package leaves a link to %q", left)
				}
			})
		}
	}
}
