package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// bootOrder checks that the boot started cimad before the engines, so that
// containers that start at boot are measured before their first instruction.
func bootOrder(ctx context.Context, w *world) error {
	ready, err := since(ctx, "cimad.service", "ActiveEnterTimestampMonotonic")
	if err != nil {
		return err
	}
	var first float64
	for _, unit := range []string{"docker.service", "podman-restart.service"} {
		begun, err := since(ctx, unit, "ExecMainStartTimestampMonotonic")
		if err != nil {
			return err
		}
		if first = begun; begun < ready {
			return fmt.Errorf("%s began at %.1f s, cimad was ready at %.1f s", unit, begun, ready)
		}
	}
	began, err := since(ctx, "cimad.service", "ExecMainStartTimestampMonotonic")
	if err != nil {
		return err
	}
	w.note("cimad began at %.1f s, was ready at %.1f s; podman-restart began at %.1f s", began, ready, first)
	events, err := readRuntimeLog()
	if err != nil {
		return err
	}
	for _, e := range []engine{dockerd, rootful} {
		if err := gatedAtBoot(ctx, e, withMachine, events); err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
		// Later checks need all containers gone.
		if _, err := finish(e.cmd(ctx, "rm", "-f", withMachine)); err != nil {
			return err
		}
	}
	return nil
}

// quadletAtBoot checks a container that is a unit, which no engine's service starts: the
// boot has started cimad before it.
func quadletAtBoot(ctx context.Context, w *world) error {
	ready, err := since(ctx, "cimad.service", "ActiveEnterTimestampMonotonic")
	if err != nil {
		return err
	}
	begun, err := since(ctx, quadletUnit, "InactiveExitTimestampMonotonic")
	if err != nil {
		return err
	}
	w.note("cimad was ready at %.1f s, %s began at %.1f s", ready, quadletUnit, begun)
	if begun < ready {
		return fmt.Errorf("%s began before cimad was ready", quadletUnit)
	}
	events, err := readRuntimeLog()
	if err != nil {
		return err
	}
	err = gatedAtBoot(ctx, rootful, withQuadlet, events)
	// Later checks need the container gone, and no failed unit: a shell that is stopped ends
	// with a status that systemd calls a failure.
	_, stopped := command(ctx, "systemctl", "stop", quadletUnit)
	command(ctx, "systemctl", "reset-failed", quadletUnit) // an error where it did not fail
	return errors.Join(err, stopped, os.Remove(quadletFile))
}

// since is a moment of a unit, in seconds since the kernel started.
func since(ctx context.Context, unit, name string) (float64, error) {
	text := property(ctx, unit, name)
	us, err := strconv.ParseFloat(text, 64)
	if err == nil && us == 0 {
		err = errors.New("it never happened")
	}
	if err != nil {
		return 0, fmt.Errorf("%s has %s=%q: %w", unit, name, text, err)
	}
	return us / 1e6, nil
}

// gatedAtBoot checks a container that the engine started at boot.
func gatedAtBoot(ctx context.Context, e engine, name string, events []logs.Event) error {
	out, err := finish(e.cmd(ctx, "exec", name, "/cimactl", "whoami", "--json"))
	if err != nil {
		return err
	}
	var who rpc.Identity
	if err := json.Unmarshal([]byte(out), &who); err != nil {
		return err
	}
	if who.Container == nil || who.Container.Assurance.Start != "gated" {
		return fmt.Errorf("the container must be measured before its first instruction: %s", out)
	}
	id, err := finish(e.cmd(ctx, "inspect", "--format", "{{.Id}}", name))
	if err != nil {
		return err
	}
	if who.Container.ID != strings.TrimSpace(id) {
		return fmt.Errorf("whoami names %s, the engine %s", who.Container.ID, id)
	}
	if len(events) == 0 || events[0].Operation != logs.OpStart {
		return errors.New("event 0 must be a start")
	}
	launches := 0
	for _, event := range events {
		if event.Operation == logs.OpLaunch && event.Container == who.Container.ID {
			launches++
		}
	}
	if launches != 1 {
		return fmt.Errorf("the log must have one launch of it, not %d", launches)
	}
	return nil
}
