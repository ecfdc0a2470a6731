package gate

import "golang.org/x/sys/unix"

type report struct {
	held *HeldExec
	why  error
}

// maxReports bounds what Missed isn't told yet.
const maxReports = 256

// giveUp answers for a process that was not decided, unless it is answered.
func (g *gate) giveUp(h *HeldExec, why error) {
	if h.answered.Load() {
		return
	}
	h.missed.Store(true)
	g.unreported.Add(1) // before it goes on
	if g.answer(h, !g.options.Refuse) {
		g.report(h, why)
	}
	g.unreported.Add(-1)
}

// answer tells the kernel, once. It says whether the process was still held.
func (g *gate) answer(h *HeldExec, allow bool) bool {
	if !h.answered.CompareAndSwap(false, true) {
		return false
	}
	return respond(g.file, h.fd, allow) == nil
}

// report hands over to who tells, and never waits.
func (g *gate) report(h *HeldExec, why error) {
	g.unreported.Add(1)
	if h != nil {
		h.users.Add(1)
	}
	select {
	case g.reports <- report{h, why}:
	default:
		g.lost.Store(true)
		g.unreported.Add(-1) // that some were lost is told with those before it
		if h != nil {
			g.release(h)
		}
	}
}

func (g *gate) reportLoop() {
	for r := range g.reports {
		g.options.Missed(r.held, r.why)
		if r.held != nil {
			g.release(r.held)
		}
		if g.lost.Swap(false) {
			g.options.Missed(nil, errBusy)
		}
		g.unreported.Add(-1)
	}
}

// release gives one use back, and what the kernel lent with the last one.
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
