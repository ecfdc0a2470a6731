package gate

import (
	"crypto/sha512"
	"time"
)

// sharedLease is a lease that outlives the exec that it was taken for. What is
// executed again meanwhile needs none of its own: nobody could write the file
// since it was measured, and whoever wants to has to wait until all who were
// answered for are through.
type sharedLease struct {
	owner  *HeldExec // who took it; its descriptors stay open
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
	maxShared   = maxLeases / 2
	maxSharedOn = maxLeasesOn / 2
	maxUses     = 4096
)

// share has the lease of a process stand if what it executes may be remembered;
// under mu.
func (k *leaseKeeper) share(h *HeldExec, script bool) {
	id := h.lease.id
	if h.cacheable == nil || k.ended || k.shared[id] != nil || len(k.shared) >= maxShared || k.sharedOn[id.dev] >= maxSharedOn {
		return
	}
	h.users.Add(1)
	k.sharedOn[id.dev]++
	now := time.Now()
	k.shared[id] = &sharedLease{owner: h, script: script, last: now, uses: []use{{h.PID, now}}}
}

// expired says that nobody needs it any more: it wasn't used for a while, or
// somebody wants to write and all who used it are through. Of a script that
// can't be seen.
func (s *sharedLease) expired(now time.Time, ended bool) bool {
	if now.Sub(s.last) > leaseTime {
		return true
	}
	if !ended && s.owner.lease.intact() {
		return false
	}
	for _, u := range s.uses {
		if now.Sub(u.at) <= leaseTime && (s.script || !s.owner.lease.id.runsIn(u.pid)) {
			return false
		}
	}
	return true
}

// Known returns the digest of the file that h is about to execute, where it was
// measured under a lease that still stands. It stands on until h is through.
// It never waits.
func (r *Roots) Known(h *HeldExec) (digest [sha512.Size384]byte, ok bool) {
	k := &r.gate.leases
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.shared[h.id]
	if s == nil || len(s.uses) >= maxUses || !s.owner.lease.intact() {
		return digest, false
	}
	now := time.Now()
	s.last = now
	s.uses = append(s.recentUses(now), use{h.PID, now})
	return *s.owner.cacheable, true
}

// recentUses are the uses that still count, in the same place.
func (s *sharedLease) recentUses(now time.Time) []use {
	old := 0
	for old < len(s.uses) && now.Sub(s.uses[old].at) > leaseTime {
		old++
	}
	return s.uses[old:]
}
