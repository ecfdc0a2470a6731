package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Where systemd is too old for the unit's type, the deb links the drop-in that makes up
// for it, and takes it away again; what an administrator put there stays.
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
		t.Run(name, func(t *testing.T) {
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
			script := func(name, action string) {
				t.Helper()
				text, err := os.ReadFile(filepath.Join("scripts", name)) // so that go test knows what it read
				if err != nil {
					t.Fatal(err)
				}
				s := exec.Command("sh", "-c", string(text), name, action, "")
				s.Env = []string{"DPKG_ROOT=" + root, "PATH=" + tools + ":" + os.Getenv("PATH")}
				if out, err := s.CombinedOutput(); err != nil || len(out) > 0 {
					t.Fatalf("%s: %v: %s", name, err, out)
				}
			}
			script("deb.postinst", "configure")
			if got, _ := os.Readlink(link); got != c.want {
				t.Errorf("the link leads to %q, not to %q", got, c.want)
			}
			script("deb.postrm", "upgrade")
			if got, _ := os.Readlink(link); got != c.want {
				t.Errorf("after an upgrade the link leads to %q, not to %q", got, c.want)
			}
			script("deb.postrm", "remove")
			left, _ := os.Readlink(link)
			if want := c.want; want == ours && left != "" || want != ours && left != want {
				t.Errorf("the removed package leaves a link to %q", left)
			}
		})
	}
}
