package main

import (
	"context"
	"errors"
	"fmt"
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
func client(c *cobra.Command) (*rpc.Client, error) {
	path, err := c.Flags().GetString("socket")
	if err != nil {
		return nil, err
	}
	return dial(c, path)
}

// dial connects, and tries again for as long as --wait says.
func dial(c *cobra.Command, path string) (*rpc.Client, error) {
	wait, err := waitOf(c)
	if err != nil {
		return nil, err
	}
	if wait == 0 {
		wait = -1 // whoever sits at a shell wants to know at once that there is no daemon
	}
	return rpc.Dialer{Path: path, Patience: wait}.Dial(c.Context())
}

// retry calls, and calls again for a while if the daemon asks for that: shortly after a
// container's start its image may not be known yet.
func retry[R any](c *cobra.Command, d *rpc.Client, call func() (R, error)) (R, error) {
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
