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
var units = []string{"cimad.socket", "cimad-admin.socket", "cimad-lookup.socket", "cimad.service"}

// Containers that start at boot: by an engine, and by a unit of their own.
const (
	withMachine = "cima-vm-with-machine"
	withQuadlet = "cima-vm-quadlet"
	quadletUnit = withQuadlet + ".service"
	quadletFile = "/etc/containers/systemd/" + withQuadlet + ".container"
)

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

// quadlet leaves a container that is a unit, and has Quadlet itself show that the unit has
// its default dependencies, by which it starts behind basic.target and so behind the gate.
func quadlet(ctx context.Context, w *world) error {
	if err := quadletExample(ctx, w); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(quadletFile), 0o755); err != nil {
		return err
	}
	text := "[Container]\nContainerName=" + withQuadlet + "\nImage=" + imageName +
		"\nExec=/bin/busybox sleep 86400\nNetwork=none\nVolume=/run/cima:/run/cima:ro\n\n" +
		"[Service]\nTimeoutStartSec=600\n\n[Install]\nWantedBy=multi-user.target\n"
	if err := os.WriteFile(quadletFile, []byte(text), 0o644); err != nil {
		return err
	}
	said, err := command(ctx, "/usr/libexec/podman/quadlet", "-dryrun")
	w.keep("quadlet.txt", []byte(said))
	if err != nil {
		return err
	}
	if !strings.Contains(said, quadletUnit) || !strings.Contains(said, "ExecStart=") {
		return fmt.Errorf("quadlet made no unit: %s", said)
	}
	if strings.Contains(said, "DefaultDependencies=") {
		return fmt.Errorf("a unit of Quadlet must have its default dependencies: %s", said)
	}
	return nil
}

// quadletExample has Quadlet read the packaged example, of which it must know every key.
func quadletExample(ctx context.Context, w *world) error {
	dir, err := os.MkdirTemp("", "quadlet")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	text, err := os.ReadFile("/opt/vm/cima-example.container")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "cima-example.container"), text, 0o644); err != nil {
		return err
	}
	said, err := command(ctx, "env", "QUADLET_UNIT_DIRS="+dir, "/usr/libexec/podman/quadlet", "-dryrun")
	w.keep("quadlet-example.txt", []byte(said))
	switch {
	case err != nil:
		return err
	case strings.Contains(said, "unsupported key"):
		return fmt.Errorf("quadlet doesn't know a key of the example: %s", said)
	case !strings.Contains(said, "-v /run/cima:/run/cima:ro"), !strings.Contains(said, "After=cimad.socket"):
		return fmt.Errorf("quadlet made another unit of the example: %s", said)
	}
	return nil
}

// autopkgtest runs the test that Debian's testbeds would.
func autopkgtest(ctx context.Context, w *world) error {
	_, err := command(ctx, "/opt/vm/no-td")
	return err
}
