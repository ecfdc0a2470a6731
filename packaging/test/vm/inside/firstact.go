package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cima-project/cima/logs"
)

// killedFirst has privileged containers kill the daemon as their first act: their
// launch is in the log, and their power before it, and then the next daemon's
// start.
func killedFirst(ctx context.Context, w *world) error {
	for _, e := range []engine{dockerd, dockercru, rootful} {
		before, err := readRuntimeLog()
		if err != nil {
			return err
		}
		pid := property(ctx, "cimad.service", "MainPID")
		_, id, err := e.start(ctx, "", []string{"--privileged", "--pid", "host"}, "/bin/busybox", "kill", "-9", pid)
		if err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
		if _, err := hostEvidence(ctx, newNonce()); err != nil { // by the next one
			return fmt.Errorf("%s: after the kill: %w", e.name, err)
		}
		if now := property(ctx, "cimad.service", "MainPID"); now == pid || now == "0" {
			return fmt.Errorf("%s: cimad was %s, and is %s: it was not killed", e.name, pid, now)
		}
		after, err := readRuntimeLog()
		if err != nil {
			return err
		}
		if err := told(after, len(before), id); err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
	}
	return nil
}

// told wants a container's launch among the events that are new, before the next
// start, and after the power that it has, which is said but once.
func told(events []logs.Event, old int, id string) error {
	power := false
	for i, e := range events {
		switch body := string(e.Body()); {
		case e.Operation == logs.OpPower:
			power = power || strings.Contains(body, `"privileged"`) && strings.Contains(body, `"namespace:pid"`)
		case e.Operation == logs.OpLaunch && e.Container == id && power:
			return nil
		case e.Operation == logs.OpLaunch && e.Container == id:
			return errors.New("it was launched before its power was said")
		case e.Operation == logs.OpStart && i >= old:
			return errors.New("the next daemon began, and it is not in the log")
		}
	}
	return errors.New("it is not in the log")
}
