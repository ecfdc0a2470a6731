package gate

import (
	"crypto/sha512"
	"time"
)

// standing is a lease that outlives the exec that it was taken for. What is
// executed again meanwhile needs none of its own: nobody could write the file
// since it was measured, and whoever wants to has to wait until all who were
// answered for are through.
type standing struct {
	held   *Held // who took it; its descriptors stay open
	script bool
	last   time.Time
	uses   []use // since keepLease ago, the newest last
}

type use struct {
	pid int
	at  time.Time
}

// Bounds: a lease that stands takes a place of those that each exec may need.
const (
	maxStanding     = maxLeases / 2
	shareOfStanding = shareOfLeases / 2
	maxUses         = 4096
)

// stand has the lease of a process stand if what it executes may be remembered;
// under mu.
func (k *keeper) stand(h *Held, script bool) {
	id := h.lease.id
	if h.lasting == nil || k.ended || k.standing[id] != nil || len(k.standing) >= maxStanding || k.shares[id.dev] >= shareOfStanding {
		return
	}
	h.users.Add(1)
	k.shares[id.dev]++
	now := time.Now()
	k.standing[id] = &standing{held: h, script: script, last: now, uses: []use{{h.PID, now}}}
}

// over says that nobody needs it any more: it wasn't used for a while, or
// somebody wants to write and all who used it are through. Of a script that
// can't be seen.
func (s *standing) over(now time.Time, ended bool) bool {
	if now.Sub(s.last) > keepLease {
		return true
	}
	if !ended && s.held.lease.stands() {
		return false
	}
	for _, u := range s.uses {
		if now.Sub(u.at) <= keepLease && (s.script || !s.held.lease.id.runsIn(u.pid)) {
			return false
		}
	}
	return true
}

// Known returns the digest of the file that h is about to execute, where it was
// measured under a lease that still stands. It stands on until h is through.
// It never waits.
func (r *Roots) Known(h *Held) (digest [sha512.Size384]byte, ok bool) {
	k := &r.gate.keeper
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.standing[h.id]
	if s == nil || len(s.uses) >= maxUses || !s.held.lease.stands() {
		return digest, false
	}
	now := time.Now()
	s.last = now
	s.uses = append(s.past(now), use{h.PID, now})
	return *s.held.lasting, true
}

// past are the uses that still count, in the same place.
func (s *standing) past(now time.Time) []use {
	old := 0
	for old < len(s.uses) && now.Sub(s.uses[old].at) > keepLease {
		old++
	}
	return s.uses[old:]
}
