package gate

import (
	"crypto/sha512"
	"time"
)

// sharedLease is a lease that outlives the exec that it was taken for. A later exec
// of the same file needs no lease of its own: no program could write the file since
// it was measured, and a writer has to wait until all allowed execs are done.
type sharedLease struct {
	owner  *HeldExec // the exec that took the lease; its descriptors stay open
	script bool
	last   time.Time
	uses   []use // of the last leaseTime, the newest last
}

// use is an exec that the lease covers.
type use struct {
	pid int
	at  time.Time
}

// Limits. A shared lease is one of the maxLeases, and one of the maxLeasesOn of its
// file system. The other half is left to execs of files without a shared lease.
const (
	maxShared   = maxLeases / 2
	maxSharedOn = maxLeasesOn / 2
	maxUses     = 4096 // of one shared lease
)

// share shares the lease of a process if a later exec may use the file's digest.
// The caller holds mu.
func (k *leaseKeeper) share(h *HeldExec, script bool) {
	id := h.lease.id
	if h.cacheable == nil || k.ended || k.shared[id] != nil || len(k.shared) >= maxShared || k.sharedOn[id.Device] >= maxSharedOn {
		return
	}
	h.users.Add(1)
	k.sharedOn[id.Device]++
	now := time.Now()
	k.shared[id] = &sharedLease{owner: h, script: script, last: now, uses: []use{{h.PID, now}}}
}

// expired reports whether the lease can end: it was not used for a while, or a
// writer waits and all execs that used the lease are done. Whether the exec of a
// script is done does not show.
func (s *sharedLease) expired(now time.Time, after time.Duration, ended bool) bool {
	if now.Sub(s.last) > after {
		return true
	}
	if !ended && s.owner.lease.intact() {
		return false
	}
	for _, u := range s.uses {
		if now.Sub(u.at) <= after && (s.script || !runsIn(s.owner.lease.id, u.pid)) {
			return false
		}
	}
	return true
}

// Known returns the digest of the file that h is about to execute, if the file was
// measured under a lease that is still intact. The lease then lasts until h's exec
// is done. Known never waits.
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
	s.uses = append(s.recentUses(now.Add(-k.time)), use{h.PID, now})
	return *s.owner.cacheable, true
}

// recentUses returns the uses since a time, in the same array.
func (s *sharedLease) recentUses(since time.Time) []use {
	old := 0
	for old < len(s.uses) && s.uses[old].at.Before(since) {
		old++
	}
	return s.uses[old:]
}
