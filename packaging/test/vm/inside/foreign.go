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

// foreignKernel extends RTMR3 as other code in the kernel could: the sysfs
// cache is not told, so that a daemon that reads it would see nothing.
func foreignKernel(ctx context.Context, w *world) error {
	events, err := settledLog(ctx)
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

// settledLog is the log once nothing of what was done before is still to be
// logged: the ends of containers are.
func settledLog(ctx context.Context) ([]logs.Event, error) {
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

// refusedAndAlive says that evidence is refused with the last agreement, and
// that the daemon answers other questions, the same one as before.
func refusedAndAlive(ctx context.Context, agreed int) error {
	pid := property(ctx, "cimad.service", "MainPID")
	for range 2 {
		_, err := hostEvidence(ctx, newNonce())
		if err := wireError(err, rpc.CodeLogInconsistent, 0); err != nil {
			return err
		}
		var e *rpc.Error
		if errors.As(err, &e); e.Data == nil || e.Data.Agreed == nil || *e.Data.Agreed != agreed {
			return fmt.Errorf("the last agreement is after %d events, the error says %+v: %s", agreed, e.Data, e.Message)
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
		return fmt.Errorf("the daemon was process %s, is %s", pid, now)
	}
	return nil
}

// foreignSysfs extends through sysfs while no daemon runs.
func foreignSysfs(ctx context.Context, w *world) error {
	events, err := settledLog(ctx)
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
	c, err := client(ctx) // starts it
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.WhoAmI(ctx); err != nil {
		return fmt.Errorf("the daemon does not start on a log that disagrees: %w", err)
	}
	// What was written last may never have been extended: one less is known.
	return refusedAndAlive(ctx, len(events)-1)
}
