package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/cimactl/command"
)

// retryFor is how long a call is made again while the daemon is not ready.
const retryFor = 15 * time.Second

// waitFlag adds --wait to a command that asks the daemon.
func waitFlag(c *cobra.Command) {
	c.Flags().Duration("wait", 0, "wait for a daemon that isn't there yet: `TIME`, 30s")
}

// waitOf is the time of --wait.
func waitOf(c *cobra.Command) (time.Duration, error) {
	wait, err := c.Flags().GetDuration("wait")
	if err == nil && wait < 0 {
		err = command.Usage(c, fmt.Errorf("--wait %v must not be below zero", wait))
	}
	return wait, err
}

// client connects to the daemon of --socket or $CIMA_SOCKET.
func client(c *cobra.Command) (*daemon, error) {
	path, err := c.Flags().GetString("socket")
	if err != nil {
		return nil, err
	}
	return dial(c, path)
}

// dial connects, and tries again for as long as --wait says. From then on the command's
// context ends, with the reason, if the daemon answers nothing.
func dial(c *cobra.Command, path string) (*daemon, error) {
	return dialWatched(c, path, silentFor)
}

func dialWatched(c *cobra.Command, path string, silence time.Duration) (*daemon, error) {
	wait, err := waitOf(c)
	if err != nil {
		return nil, err
	}
	if wait == 0 {
		wait = -1 // whoever sits at a shell wants to know at once that there is no daemon
	}
	d, err := rpc.Dialer{Path: path, Patience: wait}.Dial(c.Context())
	if err != nil {
		return nil, err
	}
	silence = max(silence, wait)
	ctx, end := context.WithCancelCause(c.Context())
	c.SetContext(ctx)
	go func() {
		if watch(ctx, func(ctx context.Context) error { _, err := d.GetDefaultAlgorithm(ctx); return err }, silence) {
			end(silent(cmp.Or(path, os.Getenv(rpc.SocketEnv), rpc.DefaultSocket), silence))
		}
	}()
	return &daemon{d, func() { end(nil) }}, nil
}

// retry calls, and calls again for a while if the daemon asks for that: shortly after a
// container's start its image may not be known yet.
func retry[R any](c *cobra.Command, d *daemon, call func() (R, error)) (R, error) {
	wait, err := waitOf(c)
	if err != nil {
		return *new(R), err
	}
	for end := time.Now().Add(max(wait, retryFor)); ; {
		result, err := call()
		var wire *rpc.Error
		if !errors.As(err, &wire) || wire.Code != rpc.CodeNotReady || time.Now().After(end) {
			return result, err
		}
		if err := sleep(c.Context(), wire.RetryAfter()); err != nil {
			return result, err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
