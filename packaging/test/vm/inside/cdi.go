package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cima-project/cima/logs"
)

const cdiDevice = "cima-project.github.io/agent=default"

// cdi gets evidence in containers that get CIMA's directory by the packaged CDI
// specification and not by a mount of their own.
func cdi(ctx context.Context, w *world) error {
	var versions []string
	for _, e := range []engine{dockerd, rootful} {
		e.name, e.cdi = e.name+"-cdi", true
		version, err := finish(e.cmd(ctx, "--version"))
		if err != nil {
			return err
		}
		versions = append(versions, strings.TrimSpace(version))
		before, err := readRuntimeLog()
		if err != nil {
			return err
		}
		if _, err := e.prove(ctx, w); err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
		after, err := readRuntimeLog()
		if err != nil {
			return err
		}
		for _, event := range after[len(before):] {
			if event.Operation == logs.OpPower {
				return fmt.Errorf("%s: the container must have no power event: %s", e.name, event.Body())
			}
		}
		if err := cdiEdits(ctx, e); err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
	}
	w.note("%s", strings.Join(versions, "; "))
	return nil
}

// cdiEdits checks that the variable is set and the directory is read-only.
func cdiEdits(ctx context.Context, e engine) error {
	out, _, err := e.start(ctx, "", nil, "/bin/sh", "-c", `echo $CIMA_SOCKET; /bin/busybox touch /run/cima/x 2>&1; :`)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(out, "/run/cima/cima.sock\n") || !strings.Contains(out, "Read-only") {
		return errors.New("the container printed " + out)
	}
	return nil
}
