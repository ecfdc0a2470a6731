package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestDataByDefault(t *testing.T) {
	c, err := Parse("")
	if err != nil || !slices.Equal(c.Launch.Data, []string{"/srv"}) || c.Launch.DataRead == nil || len(c.Launch.DataRead) > 0 {
		t.Errorf("%+v, %v", c.Launch, err)
	}
}

// What may be declared as data, and why not.
func TestDeclaredData(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("left out: needs root: what others own is refused for that")
	}
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"data", "open", "users"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "open"), 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("data", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(dir, "users"), 1000, 0); err != nil {
		t.Fatal(err)
	}
	for name, reason := range map[string]string{
		"/data/of/mine": "", "/srv": "", "/var/lib/app": "", "/opt/app/data": "", "/home/shared": "",
		"/": "part of the system", "/etc": "part of the system", "/usr": "part of the system", "/run": "part of the system", "/var": "part of the system",
		"/dev": "part of the system", "/proc": "part of the system", "/home": "part of the system", "/tmp": "part of the system",
		"/run/app": "must not lie below", "/dev/shm": "must not lie below", "/sys/kernel": "must not lie below",
		"/etc/app": "code or orders", "/usr/share": "code or orders", "/boot/x": "code or orders",
		"/var/lib": "engine's storage", "/var/lib/docker": "engine's storage", "/var/lib/docker/volumes": "engine's storage", "/var/lib/containers/x": "engine's storage",
		"srv": "absolute", "/srv/": "no / at its end", "/srv/../etc": "absolute", "": "absolute",
		dir + "/open": "root alone", dir + "/users": "uid 1000 owns", dir + "/file": "must be a directory", dir + "/link": "no symbolic link", dir + "/link/x": "no symbolic link",
	} {
		_, err := Parse(fmt.Sprintf("[launch]\ndata = [%q]", name))
		if reason == "" && err != nil || reason != "" && (err == nil || !strings.Contains(err.Error(), reason) || !strings.Contains(err.Error(), "launch.data")) {
			t.Errorf("%s: %v, want %q", name, err, reason)
		}
	}
	if os.Getuid() == 0 {
		if _, err := Parse(fmt.Sprintf("[launch]\ndata = [%q]", dir+"/users")); err == nil || !strings.Contains(err.Error(), "uid 1000") {
			t.Errorf("a user's: %v", err)
		}
		if _, err := Parse(fmt.Sprintf("[launch]\ndata = [%q]", dir+"/data")); err != nil {
			t.Error(err)
		}
	}
	for name, reason := range map[string]string{
		"/usr/share": "", "/etc/ssl/certs": "", "/usr": "part of the system", "/run/app": "must not lie below", "/var/lib/docker": "engine's storage",
	} {
		_, err := Parse(fmt.Sprintf("[launch]\ndata_read = [%q]", name))
		if reason == "" && err != nil || reason != "" && (err == nil || !strings.Contains(err.Error(), reason)) {
			t.Errorf("data_read %s: %v, want %q", name, err, reason)
		}
	}
	if _, err := Parse(`[launch]` + "\ndata = [" + strings.Repeat(`"/srv",`, maxData+1) + "]"); err == nil {
		t.Error("a list without bound")
	}
}
