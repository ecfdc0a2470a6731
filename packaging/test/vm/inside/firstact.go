package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cima-project/cima/logs"
)

// killedFirst has privileged containers kill the daemon as their first act. The
// log must have their power event, then their launch, and then the next
// daemon's start.
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
		if _, err := hostEvidence(ctx, newNonce()); err != nil { // given by the next daemon
			return fmt.Errorf("%s: after the kill: %w", e.name, err)
		}
		if now := property(ctx, "cimad.service", "MainPID"); now == pid || now == "0" {
			return fmt.Errorf("%s: cimad was %s, and is %s: it must have been killed", e.name, pid, now)
		}
		after, err := readRuntimeLog()
		if err != nil {
			return err
		}
		if err := logged(after, len(before), id); err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
	}
	return nil
}

// logged checks that the new events have the container's launch before the next
// start, and after its power event, which is logged once.
func logged(events []logs.Event, old int, id string) error {
	power := false
	for i, e := range events {
		switch body := string(e.Body()); {
		case e.Operation == logs.OpPower:
			power = power || strings.Contains(body, `"privileged"`) && strings.Contains(body, `"namespace:pid"`)
		case e.Operation == logs.OpLaunch && e.Container == id && power:
			return nil
		case e.Operation == logs.OpLaunch && e.Container == id:
			return errors.New("the launch must follow the power event")
		case e.Operation == logs.OpStart && i >= old:
			return errors.New("the launch must precede the next daemon's start")
		}
	}
	return errors.New("the launch is not in the log")
}
