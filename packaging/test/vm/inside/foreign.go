package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// foreignKernel extends RTMR3 as other code in the kernel could. The sysfs
// cache doesn't change, so that a daemon that reads it would see nothing.
func foreignKernel(ctx context.Context, w *world) error {
	events, err := drainedLog(ctx)
	if err != nil {
		return err
	}
	message := binary.LittleEndian.AppendUint64(nil, 2) // EXTEND
	message = binary.LittleEndian.AppendUint64(message, 3)
	digest := make([]byte, 48)
	rand.Read(digest)
	if err := os.WriteFile(testTD, append(message, digest...), 0); err != nil {
		return err
	}
	return refusedAndAlive(ctx, len(events))
}

// drainedLog is the log when all earlier acts are logged, the ends of
// containers among them.
func drainedLog(ctx context.Context) ([]logs.Event, error) {
	events, err := readRuntimeLog()
	for err == nil && ctx.Err() == nil {
		before := len(events)
		time.Sleep(3 * time.Second)
		if events, err = readRuntimeLog(); len(events) == before {
			break
		}
	}
	return events, err
}

// refusedAndAlive checks that evidence is refused with the last agreement, and
// that the same daemon still answers other requests.
func refusedAndAlive(ctx context.Context, agreed int) error {
	pid := property(ctx, "cimad.service", "MainPID")
	for range 2 {
		_, err := hostEvidence(ctx, newNonce())
		if err := wireError(err, rpc.CodeLogInconsistent, 0); err != nil {
			return err
		}
		var e *rpc.Error
		if errors.As(err, &e); e.Data == nil || e.Data.Agreed == nil || *e.Data.Agreed != agreed {
			return fmt.Errorf("the last agreement is after %d events, the error has %+v: %s", agreed, e.Data, e.Message)
		}
	}
	c, err := client(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.WhoAmI(ctx); err != nil {
		return err
	}
	if now := property(ctx, "cimad.service", "MainPID"); now != pid || pid == "0" {
		return fmt.Errorf("the daemon must still be process %s, not %s", pid, now)
	}
	return nil
}

// foreignSysfs extends through sysfs while no daemon runs.
func foreignSysfs(ctx context.Context, w *world) error {
	events, err := drainedLog(ctx)
	if err != nil {
		return err
	}
	if _, err := command(ctx, "systemctl", "stop", "cimad.service"); err != nil {
		return err
	}
	digest := make([]byte, 48)
	rand.Read(digest)
	if err := os.WriteFile(measurements+"/rtmr3:sha384", digest, 0); err != nil {
		return err
	}
	c, err := client(ctx) // starts the daemon
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.WhoAmI(ctx); err != nil {
		return fmt.Errorf("the daemon must start on a log that disagrees: %w", err)
	}
	// The last event may never have been extended: one less is certain.
	return refusedAndAlive(ctx, len(events)-1)
}
