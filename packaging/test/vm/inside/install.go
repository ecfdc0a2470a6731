package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Units of the package.
var units = []string{"cimad.socket", "cimad-admin.socket", "cimad.service"}

// Containers that the engines start at boot.
const withMachine = "cima-vm-with-machine"

// apt runs apt-get without questions; it has no network to fetch from.
func apt(ctx context.Context, args ...string) (string, error) {
	return command(ctx, append([]string{"env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y"}, args...)...)
}

// debs are the packages as they were built.
func debs(names ...string) (paths []string, err error) {
	for _, name := range names {
		found, err := filepath.Glob("/opt/vm/" + name + "_*.deb")
		if err != nil || len(found) != 1 {
			return nil, fmt.Errorf("%s: packages %v: %w", name, found, err)
		}
		paths = append(paths, found[0])
	}
	return paths, nil
}

// installed checks that apt installs the packages on a machine that is no TD,
// and that nothing runs, nothing fails and nothing is printed.
func installed(ctx context.Context, w *world) error {
	if _, err := os.Stat("/dev/tdx_guest"); err == nil {
		return errors.New("this machine must not be a TD yet")
	}
	files, err := debs("cimad", "cimactl")
	if err != nil {
		return err
	}
	said, err := apt(ctx, append([]string{"install"}, files...)...)
	if err != nil {
		return err
	}
	w.keep("apt-install.txt", []byte(said))
	for line := range strings.Lines(strings.ToLower(said)) {
		for _, word := range []string{"warn", "fail", "error", "skipp"} {
			if strings.Contains(line, word) {
				return fmt.Errorf("apt printed: %s", line)
			}
		}
	}
	for _, unit := range units {
		if _, err := command(ctx, "systemctl", "start", unit); err != nil {
			return err
		}
		for name, want := range map[string]string{"UnitFileState": "enabled", "ActiveState": "inactive", "ConditionResult": "no"} {
			if got := property(ctx, unit, name); got != want {
				return fmt.Errorf("%s has %s=%s, not %s", unit, name, got, want)
			}
		}
	}
	for dir, want := range map[string]os.FileMode{"/run/cima": 0o755, "/run/cima-admin": 0o700} {
		if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm() != want {
			return fmt.Errorf("%s: %v, %w", dir, fi, err)
		}
	}
	version, err := command(ctx, "cimad", "--version")
	w.note("%s", strings.TrimSpace(version))
	return err
}

// startsWithMachine leaves with each engine a container that starts at boot.
func startsWithMachine(ctx context.Context, w *world) error {
	for _, e := range []engine{dockerd, rootful} {
		if err := e.image(ctx); err != nil {
			return err
		}
		flags := []string{"-d", "--name", withMachine, "--restart", "always"}
		if _, err := finish(e.cmd(ctx, e.begin(flags, "/bin/busybox", "sleep", "86400")...)); err != nil {
			return err
		}
	}
	_, err := command(ctx, "systemctl", "enable", "podman-restart.service")
	return err
}

// autopkgtest runs the test that Debian's testbeds would.
func autopkgtest(ctx context.Context, w *world) error {
	_, err := command(ctx, "/opt/vm/no-td")
	return err
}
