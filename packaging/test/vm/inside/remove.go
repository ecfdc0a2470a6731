package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// removed removes the package while containers have its directory mounted.
func removed(ctx context.Context, w *world) error {
	before, err := os.ReadFile(runtimeLog)
	if err != nil {
		return err
	}
	if _, err := apt(ctx, "remove", "cimad"); err != nil {
		return err
	}
	for _, unit := range units {
		if state := property(ctx, unit, "ActiveState"); state != "inactive" {
			return fmt.Errorf("%s is %s", unit, state)
		}
	}
	if out, _ := command(ctx, "pgrep", "-x", "cimad"); out != "" {
		return fmt.Errorf("process %s must have ended", strings.TrimSpace(out))
	}
	if failed, err := command(ctx, "systemctl", "list-units", "--failed", "--plain", "--no-legend", "cima*"); err != nil || failed != "" {
		return fmt.Errorf("failed units: %s: %w", failed, err)
	}
	for _, socket := range []string{"/run/cima/cima.sock", "/run/cima-admin/admin.sock"} {
		if _, err := command(ctx, "cimactl", "--socket", socket, "whoami"); err == nil {
			return fmt.Errorf("%s must not answer", socket)
		}
	}
	for _, gone := range []string{"/usr/sbin/cimad", "/usr/lib/systemd/system/cimad.service"} {
		if _, err := os.Lstat(gone); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s must be gone: %w", gone, err)
		}
	}
	if _, err := os.Stat("/etc/cima/cimad.toml"); err != nil {
		return err
	}
	after, err := os.ReadFile(runtimeLog)
	if err == nil && !strings.HasPrefix(string(after), string(before)) {
		err = errors.New("the log must be unchanged")
	}
	return err
}

// purged removes what the removal left.
func purged(ctx context.Context, w *world) error {
	if err := os.RemoveAll(dropInDir); err != nil { // the drop-ins of the test's own start
		return err
	}
	if _, err := apt(ctx, "purge", "cimad", "cimactl"); err != nil {
		return err
	}
	var left []string
	looked := 0
	for _, root := range []string{"/etc", "/usr", "/var", "/run", "/opt", "/root"} {
		err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			looked++
			switch {
			case err != nil:
				return nil // another process's file, gone meanwhile
			case path == "/opt/vm" || strings.Contains(path, "/overlay2/") || strings.Contains(path, "/overlay/") || strings.HasPrefix(path, "/run/containerd/io."):
				return fs.SkipDir // the tests' files, and files of containers
			case strings.Contains(e.Name(), "cima") && !strings.Contains(e.Name(), "cima-vm") && !strings.Contains(e.Name(), "cima_test_td"):
				left = append(left, path)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	w.note("%d files looked at", looked)
	if len(left) > 0 || looked < 1000 {
		return fmt.Errorf("%d files checked, left are %v", looked, left)
	}
	return nil
}
