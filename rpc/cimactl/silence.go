package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cima-project/cima/rpc"
)

// silentFor is how long a daemon that was reached may answer nothing at all. A quote may
// take minutes, but what is in the daemon's memory is answered at once beside it.
const silentFor = 30 * time.Second

// daemon is a connection that ends the command if nobody answers at its other end: systemd
// listens in the place of a daemon that can't start.
type daemon struct {
	*rpc.Client
	unwatch context.CancelFunc
}

func (d *daemon) Close() error {
	d.unwatch()
	return d.Client.Close()
}

// watch asks every few seconds, and ends once nothing was answered for so long, or ctx
// has ended. An error that the daemon returned is an answer. It reports silence.
func watch(ctx context.Context, ask func(context.Context) error, silence time.Duration) bool {
	const pause = 5 * time.Second
	for {
		if sleep(ctx, pause) != nil {
			return false
		}
		err := within(ctx, silence-pause, ask)
		if ctx.Err() != nil {
			return false
		}
		if errors.Is(err, context.DeadlineExceeded) {
			return true
		}
	}
}

func within(ctx context.Context, limit time.Duration, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return ask(ctx)
}

func silent(path string, silence time.Duration) error {
	return &rpc.UnreachableError{
		Path: path,
		Err:  fmt.Errorf("somebody listens, and answered nothing for %v", silence),
		Hint: "systemd listens for a daemon that can't start, too: systemctl status cimad, on the host",
	}
}
