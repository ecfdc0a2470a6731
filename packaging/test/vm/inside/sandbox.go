package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const dropInDir = "/etc/systemd/system/cimad.service.d"

// dropIns gets evidence from the daemon under the narrowest packaged sandbox,
// and then under the usual one again.
func dropIns(ctx context.Context, w *world) (err error) {
	usual, err := exposure(ctx)
	if err != nil {
		return err
	}
	if err := restartWith(ctx, "no-gate.conf", "no-homes.conf"); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, restartWith(ctx, "rootless.conf"))
		if err == nil {
			_, err = dockerd.prove(ctx, w)
		}
	}()
	narrow, err := exposure(ctx)
	if err != nil {
		return err
	}
	w.note("exposure %s, not %s", narrow, usual)
	for _, e := range []engine{dockerd, rootful} {
		e.ungated = true
		if _, err := e.prove(ctx, w); err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
	}
	return nil
}

// restartWith restarts the daemon with these drop-ins alone.
func restartWith(ctx context.Context, names ...string) error {
	if err := errors.Join(os.RemoveAll(dropInDir), os.MkdirAll(dropInDir, 0o755)); err != nil {
		return err
	}
	for _, name := range names {
		if err := os.Symlink("/usr/share/cima/"+name, filepath.Join(dropInDir, name)); err != nil {
			return err
		}
	}
	if _, err := command(ctx, "systemctl", "daemon-reload"); err != nil {
		return err
	}
	_, err := command(ctx, "systemctl", "restart", "cimad.service")
	return err
}

// exposure is systemd-analyze's rating of the unit here.
func exposure(ctx context.Context) (string, error) {
	out, err := command(ctx, "systemd-analyze", "security", "--no-pager", "cimad.service")
	if err != nil {
		return "", err
	}
	_, level, found := strings.Cut(out, "Overall exposure level for cimad.service: ")
	if !found {
		return "", fmt.Errorf("systemd-analyze prints %s", out)
	}
	level, _, _ = strings.Cut(level, " ")
	return level, nil
}
