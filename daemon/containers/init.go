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

// settling is how long a runtime may take to remove what it noted of a container that it
// starts, or failed to make.
const settling = 2 * time.Second

// isUnsettled reports whether nobody can tell yet that a container which was not judged has
// started: its first process has ended, or its exec FIFO is there. Runtimes remove the FIFO
// when they start a container, and also, with all else, when they fail to make it: so one
// that is gone with the process proves a start only after a while, if the record is there
// still. A process that is ending has closed the FIFO before anybody sees that it ended.
// Else any container could have itself announced by a program that nobody can execute.
//
// Nothing of a container runs whose process ended and whose FIFO is there. since is when
// this was asked first with such an answer; the call sets it.
func isUnsettled(rec records.Record, since *time.Time) bool {
	_, err := fifo.In(rec.StateDir)
	removed, gone := errors.Is(err, fs.ErrNotExist), isGone(rec)
	if removed && !gone {
		return false
	}
	if since.IsZero() {
		*since = time.Now()
	}
	return !removed && gone || time.Since(*since) <= settling
}

// isGone reports whether a container's first process has ended.
func isGone(rec records.Record) bool {
	init, err := openProcess(rec)
	if err != nil {
		return errors.Is(err, procfs.ErrEnded)
	}
	defer closeProcess(init)
	return procfs.Alive(init.PIDFD) != nil
}
