package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cima-project/cima/rpc"
)

// onFUSE checks that a container whose root file system is served by a program
// (FUSE) starts measured and gated, and that the log has the reason why nothing
// that it executes has a digest.
func onFUSE(ctx context.Context, w *world) error {
	e := rootful
	e.name, e.command = "podman-fuse", []string{"podman", "--storage-opt", "overlay.mount_program=/usr/bin/fuse-overlayfs"}
	if err := e.image(ctx); err != nil {
		return err
	}
	return measuringExecs(ctx, "", func() error {
		id, remove, err := e.sleeps(ctx)
		if err != nil {
			return err
		}
		defer remove()
		pid, err := finish(e.cmd(ctx, "inspect", "-f", "{{.State.Pid}}", id))
		if err != nil {
			return err
		}
		if err := rootIs("fuse.fuse-overlayfs", strings.TrimSpace(pid)); err != nil {
			return err
		}
		bundle, err := finish(e.cmd(ctx, "exec", id, "/cimactl", "evidence", "--nonce", fmt.Sprintf("%x", newNonce())))
		if err != nil {
			return err
		}
		bundle = strings.TrimSpace(bundle)
		_, claims, err := rpc.DecodeEvidence([]byte(bundle))
		if err != nil {
			return err
		}
		if start := claims.Container.Assurance.Start; start != "gated" {
			return fmt.Errorf("the start must be gated, not %s", start)
		}
		seen, err := execsIn([]byte(bundle))
		if err != nil {
			return err
		}
		var execs []string
		for _, x := range seen {
			execs = append(execs, x.SHA384+x.Missed)
		}
		w.note("%s", strings.Join(execs, "; "))
		if len(execs) != 1 || !strings.Contains(execs[0], "can't be measured there") {
			return fmt.Errorf("the container's exec events: %q", execs)
		}
		return nil
	})
}

// rootIs checks the type of the file system that is a process's root.
func rootIs(kind, pid string) error {
	mounts, err := os.ReadFile("/proc/" + pid + "/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mounts)) {
		fields, options, _ := strings.Cut(line, " - ")
		if words := strings.Fields(fields); len(words) > 4 && words[4] == "/" {
			if !strings.HasPrefix(options, kind+" ") {
				return fmt.Errorf("its root file system is %s, not %s", options, kind)
			}
			return nil
		}
	}
	return errors.New("no root file system in mountinfo")
}
