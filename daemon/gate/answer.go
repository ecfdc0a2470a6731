package gate

import "golang.org/x/sys/unix"

// report is a call of Missed that is due.
type report struct {
	held *HeldExec
	why  error
}

// maxReports is the most reports that wait for Missed.
const maxReports = 256

// giveUp answers for a process that was not decided, unless it has an answer.
func (g *gate) giveUp(h *HeldExec, why error) {
	if h.answered.Load() {
		return
	}
	h.missed.Store(true)
	g.unreported.Add(1) // before the process goes on
	if g.answer(h, !g.options.Refuse) {
		g.report(h, why)
	}
	g.unreported.Add(-1)
}

// answer answers the kernel, once. It reports whether the process was still held.
func (g *gate) answer(h *HeldExec, allow bool) bool {
	if !h.answered.CompareAndSwap(false, true) {
		return false
	}
	return respond(g.file, h.fd, allow) == nil
}

// report queues a call of Missed. It never waits.
func (g *gate) report(h *HeldExec, why error) {
	g.unreported.Add(1)
	if h != nil {
		h.users.Add(1)
	}
	select {
	case g.reports <- report{h, why}:
	default:
		g.lost.Store(true)
		g.unreported.Add(-1) // an earlier report also reports that some were lost
		if h != nil {
			g.release(h)
		}
	}
}

// reportLoop calls Missed.
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
