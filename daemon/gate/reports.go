package gate

import (
	"sync"

	"github.com/cima-project/cima/daemon/overlay"
)

// report is a call of Missed that is due.
type report struct {
	held *HeldExec
	why  error
	due  ticket
}

// Limits of reports that wait for Missed: each holds two descriptors.
const (
	maxReports        = 256
	maxReportsCharged = 64 // of one container
)

// reports are those that wait. What has no place is reported as several at once, of who
// is charged, and takes nobody else's place.
type reports struct {
	mu     sync.Mutex
	ready  sync.Cond
	queue  []report
	count  map[uint64]int // in queue, by ticket.charged
	lost   map[uint64][]ticket
	closed bool
}

func newReports() *reports {
	r := &reports{count: make(map[uint64]int), lost: make(map[uint64][]ticket)}
	r.ready.L = &r.mu
	return r
}

func (r *reports) put(h *HeldExec, why error, due ticket) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.ready.Signal()
	if len(r.queue) >= maxReports || due.charged != 0 && r.count[due.charged] >= maxReportsCharged {
		r.lost[due.charged] = append(r.lost[due.charged], due)
		return
	}
	if h != nil {
		h.users.Add(1)
	}
	r.count[due.charged]++
	r.queue = append(r.queue, report{h, why, due})
}

// lostReports are reports that had no place.
type lostReports struct {
	charged uint64
	due     []ticket
}

// severalOn stands for several processes of the container on a device; nil: of any.
func (l lostReports) severalOn() *HeldExec {
	if l.charged == 0 {
		return nil
	}
	return &HeldExec{PIDFD: -1, fd: -1, id: overlay.File{Device: l.charged}}
}

// next waits for a report, or for some that had no place. It returns false when reports
// are closed and all are told.
func (r *reports) next() (next report, lost []lostReports, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.queue)+len(r.lost) == 0 {
		if r.closed {
			return report{}, nil, false
		}
		r.ready.Wait()
	}
	if len(r.queue) > 0 {
		next, r.queue = r.queue[0], r.queue[1:]
		if r.count[next.due.charged]--; r.count[next.due.charged] == 0 {
			delete(r.count, next.due.charged)
		}
	}
	for charged, due := range r.lost {
		lost = append(lost, lostReports{charged, due})
	}
	clear(r.lost)
	return next, lost, true
}

// close says that put is not called any more.
func (r *reports) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.ready.Signal()
}
