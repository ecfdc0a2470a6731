package power

import (
	"context"

	"github.com/cima-project/cima/daemon/procfs"
	"github.com/cima-project/cima/logs"
)

// UnseenStart is the class of a container that nobody looked at between the end of its
// runtime's set-up and its first instruction.
const UnseenStart = "unseen-start"

// Init is a container's first process, at START: the runtime's set-up is done, and
// nothing of the container has run.
type Init struct {
	PID   int
	PIDFD int // keeps PID from being another process's
}

// Verdict is what the kernel shows of a container.
type Verdict struct {
	Classes []string            // sorted, without duplicates
	Mounted []logs.MountedPlace // by destination: mounts of another place than their source's text
}

// Look judges a container's first process.
func Look(ctx context.Context, init Init) (Verdict, error) {
	classes, err := hostNamespaces(init.PID)
	if err != nil {
		return Verdict{}, err
	}
	// What was read was read of this process: its pid was its own all the while.
	if err := procfs.Alive(init.PIDFD); err != nil {
		return Verdict{}, err
	}
	return Verdict{Classes: classes}, ctx.Err()
}
