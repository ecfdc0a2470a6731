package containers

import (
	"errors"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/fifo"
	"github.com/cima-project/cima/daemon/power"
	"github.com/cima-project/cima/daemon/procfs"
	"github.com/cima-project/cima/daemon/records"
)

// Errors of a START that can't be judged.
var (
	errNoInit = errors.New("the runtime noted no first process")
	errNoFIFO = errors.New("the first process waits in no exec FIFO")
)

// initProcess is a container's first process, as the runtime noted it.
type initProcess struct {
	power.Init
	fifo procfs.FileID
}

// openInit opens the first process of a container that has not started. Its error is
// procfs.ErrEnded if that process is gone, and errNoFIFO where there is no exec FIFO:
// the container has started, or its runtime makes none.
func openInit(rec records.Record) (*initProcess, error) {
	if rec.InitPID <= 0 || rec.StateDir == "" {
		return nil, errNoInit
	}
	at, err := fifo.In(rec.StateDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoFIFO
	}
	if err != nil {
		return nil, err
	}
	init, err := openProcess(rec)
	return &initProcess{init, at}, err
}

// openProcess opens the first process of a container.
func openProcess(rec records.Record) (power.Init, error) {
	pidfd, err := unix.PidfdOpen(rec.InitPID, 0)
	if errors.Is(err, unix.ESRCH) {
		return power.Init{}, procfs.ErrEnded
	}
	if err != nil {
		return power.Init{}, err
	}
	init := power.Init{PID: rec.InitPID, PIDFD: pidfd}
	if rec.InitStart == 0 {
		return init, nil
	}
	if started, err := procfs.Started(init.PID); err != nil || started != rec.InitStart {
		unix.Close(pidfd)
		return power.Init{}, procfs.ErrEnded // another process has its number
	}
	return init, nil
}

func (p *initProcess) close() { closeProcess(p.Init) }

func closeProcess(p power.Init) { unix.Close(p.PIDFD) }

// waits reports whether the process waits to be started now.
func (p *initProcess) waits() bool {
	return fifo.AwaitsStart(p.PID, p.fifo) && procfs.Alive(p.PIDFD) == nil
}

// isPending reports whether a container is made and not started: its first process
// waits for that, or will in a moment.
func isPending(rec records.Record) bool {
	init, err := openInit(rec)
	if err != nil {
		return false
	}
	defer init.close()
	return fifo.IsOpen(init.PID, init.fifo) && procfs.Alive(init.PIDFD) == nil
}

// failing is how long a runtime may take to remove what it noted of a container that it
// failed to make.
const failing = 2 * time.Second

// neverStarted reports whether a container's first process has ended before the container
// was started: its exec FIFO is still there, which runtimes remove when they start it.
// Nothing of the container has run. It is asked again later, because a program that ends
// at once may end before its runtime has removed the FIFO.
//
// A runtime that fails to make a container ends its first process and removes the FIFO with
// all else. So a FIFO that is gone with the process proves a start only after a while, if
// the record is there still: or any container could have itself announced by a program that
// nobody can execute.
func neverStarted(rec records.Record, seen time.Time) bool {
	if _, err := fifo.In(rec.StateDir); errors.Is(err, fs.ErrNotExist) && time.Since(seen) > failing {
		return false
	}
	init, err := openProcess(rec)
	if err != nil {
		return errors.Is(err, procfs.ErrEnded)
	}
	defer closeProcess(init)
	return procfs.Alive(init.PIDFD) != nil
}
