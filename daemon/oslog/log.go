package oslog

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs/ima"
	"github.com/cima-project/cima/rpc"
)

// Log is the kernel's IMA log where the kernel extends RTMR2 for each entry. It is
// a part of evidence then, because without it RTMR2 does not replay. Its methods
// may be called from many goroutines.
type Log struct {
	tail   *Tail
	booted hw.Digest // RTMR2 as the boot log left it
	whole  bool      // no container was isolated at the start: all lines are stored

	mu      sync.Mutex
	entries []entry
	known   int       // number of entries up to which RTMR2 was found last
	at      hw.Digest // RTMR2 after these
	failed  error
	cgroups map[string]string // one copy of each path
}

// entry is an entry that extended RTMR2. Its line is stored if some container
// could see it.
type entry struct {
	digest hw.Digest
	cgroup string // "" where the entry doesn't name one
	first  bool   // the kernel's own, shown to all: it tells verifiers where the boot ended
	line   string
}

// Open opens the IMA log below dir where the kernel extends RTMR2 for it. booted
// is RTMR2 as the boot log leaves it, now is RTMR2 as it is, and whole says that
// no container is isolated. Open returns nil where the kernel extends nothing, has
// no IMA log, or where something else extends RTMR2; log gets the reason.
func Open(dir string, booted, now hw.Digest, whole bool, log *slog.Logger) *Log {
	if now == booted {
		return nil // entries are anchored in the runtime log
	}
	l := newLog(booted, whole)
	var err error
	if l.tail, err = Follow(dir, l.add); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			log.Warn("the IMA log can't be read", "error", err)
		}
		log.Warn("RTMR2 holds more than the boot log explains: evidence won't replay to it")
		return nil
	}
	if _, err := l.upTo(now); err != nil {
		l.Close()
		log.Warn("something other than IMA extends RTMR2 after the boot: evidence won't replay to it", "error", err)
		return nil
	}
	log.Info("the kernel extends RTMR2 for IMA: its log is a part of evidence", "entries", len(l.entries))
	return l
}

func newLog(booted hw.Digest, whole bool) *Log {
	return &Log{booted: booted, at: booted, whole: whole, cgroups: make(map[string]string)}
}

// Close closes the log's files.
func (l *Log) Close() error { return l.tail.Close() }

// add stores an entry; the tail calls it, under mu.
func (l *Log) add(e *ima.Entry) {
	digest, extends, err := e.RTMR2Digest()
	if err != nil && l.failed == nil {
		l.failed = err
	}
	if !extends || err != nil {
		return
	}
	stored := entry{digest: digest, first: len(l.entries) == 0 && e.BootAggregate()}
	if path, ok := e.CgroupPath(); ok {
		one, known := l.cgroups[string(path)]
		if !known {
			one = string(path)
			l.cgroups[one] = one
		}
		stored.cgroup = one
	}
	// Nothing proves the text of a violation: its digest is all that counts. The
	// same holds for a name with line feeds, which readers may split differently.
	if line := e.String(); (l.whole || stored.first || isContainers(stored.cgroup)) && !e.Violation && !strings.Contains(line, "\n") {
		stored.line = line + "\n"
	}
	l.entries = append(l.entries, stored)
}

// isContainers reports whether a cgroup could be a container's: a component of its
// path ends in an id.
func isContainers(cgroup string) bool {
	for name := range strings.SplitSeq(cgroup, "/") {
		if hasID(name) {
			return true
		}
	}
	return false
}

// hasID reports whether a name ends as engines name the cgroups of containers.
func hasID(name string) bool {
	name = strings.TrimSuffix(name, ".scope")
	return len(name) >= 64 && strings.Trim(name[len(name)-64:], "0123456789abcdef") == ""
}

// upTo returns the entries that replay to a value of RTMR2: the kernel adds an
// entry to its list before it extends.
func (l *Log) upTo(rtmr2 hw.Digest) ([]entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.tail.Update(); err != nil {
		return nil, err
	}
	if l.failed != nil {
		return nil, l.failed
	}
	for _, from := range []struct {
		count int
		value hw.Digest
	}{{l.known, l.at}, {0, l.booted}} { // this quote may be older than the last one
		value := from.value
		for n := from.count; ; n++ {
			if value == rtmr2 {
				l.known, l.at = n, value
				return l.entries[:n:n], nil
			}
			if n == len(l.entries) {
				break
			}
			value = value.Extend(l.entries[n].digest)
		}
	}
	return nil, fmt.Errorf("RTMR2 is %.16s…, which the IMA log's %d entries don't lead to", rtmr2, len(l.entries))
}

// first returns the entries that an order has.
func (l *Log) first(runs []run) []entry {
	if len(runs) == 0 {
		return nil
	}
	n := runs[len(runs)-1].ima
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.entries[:n:n]
}

// Shown returns the entries up to a quote's RTMR2 as evidence shows them to a
// container with this cgroup ("" for the host): the container's own in full, others
// as digests, or all in full where whole is true.
func (l *Log) Shown(rtmr2 hw.Digest, cgroup string, whole bool) ([]rpc.OSLog, error) {
	entries, err := l.upTo(rtmr2)
	if err != nil {
		return nil, err
	}
	var list []rpc.OSLog
	add := func(format string, data []byte) {
		if n := len(list); n == 0 || list[n-1].Format != format {
			list = append(list, rpc.OSLog{Register: "rtmr2", Format: format})
		}
		last := &list[len(list)-1]
		last.Entries = append(last.Entries, data...)
	}
	for _, e := range entries {
		if e.shownTo(cgroup, whole) {
			add(rpc.FormatIMA, []byte(e.line))
		} else {
			add(rpc.FormatIMADigests, e.digest[:])
		}
	}
	return list, nil
}

// shownTo reports whether a container sees an entry in full: the first entry, its
// own entries, or all where no container is isolated.
func (e *entry) shownTo(cgroup string, whole bool) bool {
	return e.line != "" && (whole || e.first || isOwn(e.cgroup, cgroup))
}

// isOwn reports whether an entry's cgroup is the declared one of a container, or
// below it and no other container's. The kernel writes spaces as underscores.
func isOwn(path, declared string) bool {
	declared = strings.ReplaceAll(strings.TrimRight(declared, "/"), " ", "_")
	below, ok := strings.CutPrefix(path, declared)
	return declared != "" && ok && (below == "" || below[0] == '/') && !isContainers(below)
}
