package gate

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// giveUp answers for a process that was not decided, unless it has an answer.
func (g *gate) giveUp(h *HeldExec, why error) {
	if h.answered.Load() {
		return
	}
	h.missed.Store(true)
	due := g.untold.begin(g.chargedTo(h)) // before the process goes on
	if g.answer(h, !g.options.Refuse) {
		g.reports.put(h, why, due)
	} else {
		g.untold.end(due)
	}
}

// report has Missed called. It never waits.
func (g *gate) report(h *HeldExec, why error) {
	g.reports.put(h, why, g.untold.begin(g.chargedTo(h)))
}

// chargedTo returns the root file system whose container alone is concerned by what is
// missed of a process, 0: it may be any.
func (g *gate) chargedTo(h *HeldExec) uint64 {
	if h != nil && g.options.Owns != nil && g.options.Owns(h) {
		return h.Device()
	}
	return 0
}

// answer answers the kernel, once. It reports whether the process was still held.
func (g *gate) answer(h *HeldExec, allow bool) bool {
	if !h.answered.CompareAndSwap(false, true) {
		return false
	}
	return respond(g.file, h.fd, allow) == nil
}

// reportLoop calls Missed.
func (g *gate) reportLoop() {
	for {
		r, lost, ok := g.reports.next()
		if !ok {
			return
		}
		if r.due != (ticket{}) {
			g.options.Missed(r.held, r.why)
			if r.held != nil {
				g.release(r.held)
			}
			g.untold.end(r.due)
		}
		for _, of := range lost {
			g.options.Missed(of.severalOn(), errBusy)
			for _, due := range of.due {
				g.untold.end(due)
			}
		}
	}
}

// release gives one use of h back. The last one closes its descriptors and ends
// its lease.
func (g *gate) release(h *HeldExec) {
	if h.users.Add(-1) > 0 {
		return
	}
	if h.lease != nil {
		h.lease.release()
	}
	unix.Close(h.fd)
	if h.PIDFD >= 0 {
		unix.Close(h.PIDFD)
	}
}

// ticket is a process that went on undecided, and for which Missed has not returned yet.
type ticket struct {
	number  uint64 // from 1 on
	charged uint64 // gate.chargedTo
}

// untold are the tickets, by who is concerned. One container's delay nobody else's
// evidence.
type untold struct {
	mu   sync.Mutex
	last uint64
	open map[uint64]map[uint64]bool // numbers, by charged
}

func (u *untold) begin(charged uint64) ticket {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.last++
	if u.open == nil {
		u.open = make(map[uint64]map[uint64]bool)
	}
	if u.open[charged] == nil {
		u.open[charged] = make(map[uint64]bool)
	}
	u.open[charged][u.last] = true
	return ticket{u.last, charged}
}

func (u *untold) end(t ticket) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.open[t.charged], t.number)
	if len(u.open[t.charged]) == 0 {
		delete(u.open, t.charged)
	}
}

// concern reports whether a ticket may concern the container on a device, of those up to a
// number; 0: of all.
func (u *untold) concern(device, upTo uint64) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, charged := range []uint64{device, 0} {
		for number := range u.open[charged] {
			if upTo == 0 || number <= upTo {
				return true
			}
		}
	}
	return false
}

// toldInterval is the time between two looks at tickets that somebody waits for.
const toldInterval = time.Millisecond

// wait waits until no ticket of now concerns the container on a device: what came later is
// for later evidence.
func (u *untold) wait(ctx context.Context, device uint64) error {
	u.mu.Lock()
	now := u.last
	u.mu.Unlock()
	for u.concern(device, max(now, 1)) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(toldInterval):
		}
	}
	return nil
}
