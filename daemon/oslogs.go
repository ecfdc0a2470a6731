package daemon

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/logs/ima"
	"github.com/cima-project/cima/rpc"
)

// osLog is the kernel's IMA log where the kernel itself extends RTMR2 for it: then
// it is a part of evidence, for without it RTMR2 doesn't replay.
type osLog struct {
	imaLog
	booted hw.Digest // RTMR2 as the boot log left it
	whole  bool      // nobody was isolated at the start: all lines are kept

	warned atomic.Bool // that it gets large

	mu      sync.Mutex
	entries []osEntry
	known   int       // entries up to which RTMR2 was found last
	at      hw.Digest // RTMR2 after these
	failed  error
	cgroups map[string]string // one copy of each path
}

// osEntry is an entry that extended RTMR2. Lines are kept of what some container
// could see.
type osEntry struct {
	digest hw.Digest
	cgroup string // "" where the entry doesn't tell
	first  bool   // the kernel's own, shown to all: verifiers see where the boot ended
	line   string
}

// openOSLog opens the IMA log if the kernel extends RTMR2 for it, and says so in
// the journal; nil where it doesn't, or has none.
func (d *Daemon) openOSLog(ctx context.Context) error {
	booted, err := boot.Replay(d.bootLog)
	if err != nil {
		return err
	}
	now, err := d.registers(ctx)
	if err != nil {
		d.log.Warn("whether the kernel extends RTMR2 for IMA is not known", "error", err)
		return nil
	}
	if now.RTMR[2] == booted[2] {
		return nil // entries are anchored in the runtime log
	}
	o := &osLog{booted: booted[2], at: booted[2], whole: d.config().Isolation == config.IsolationNone, cgroups: make(map[string]string)}
	if err := o.open(d.opts.imaDir(), o.add); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			d.log.Warn("the IMA log can't be read", "error", err)
		}
		d.log.Warn("RTMR2 holds more than the boot log tells: evidence won't replay to it")
		return nil
	}
	if _, err := o.upTo(now.RTMR[2]); err != nil {
		o.close()
		d.log.Warn("something else than IMA extends RTMR2 after the boot: evidence won't replay to it", "error", err)
		return nil
	}
	d.log.Info("the kernel extends RTMR2 for IMA: its log is a part of evidence", "entries", len(o.entries))
	d.osLog = o
	return nil
}

// add takes an entry; called by the tail, under mu.
func (o *osLog) add(e *ima.Entry) {
	digest, extends, err := e.RTMR2Digest()
	if err != nil && o.failed == nil {
		o.failed = err
	}
	if !extends || err != nil {
		return
	}
	entry := osEntry{digest: digest, first: len(o.entries) == 0 && e.BootAggregate()}
	if path, ok := e.CgroupPath(); ok {
		one, known := o.cgroups[string(path)]
		if !known {
			one = string(path)
			o.cgroups[one] = one
		}
		entry.cgroup = one
	}
	// What a violation says, nothing proves: its digest is all that counts. So it
	// is with a name of several lines, which readers may not put together again.
	if line := e.String(); (o.whole || entry.first || isContainers(entry.cgroup)) && !e.Violation && !strings.Contains(line, "\n") {
		entry.line = line + "\n"
	}
	o.entries = append(o.entries, entry)
}

// isContainers says whether a cgroup could be a container's: it has an id in it.
func isContainers(cgroup string) bool {
	for name := range strings.SplitSeq(cgroup, "/") {
		if hasID(name) {
			return true
		}
	}
	return false
}

// hasID says whether a name ends as engines name containers' cgroups.
func hasID(name string) bool {
	name = strings.TrimSuffix(name, ".scope")
	return len(name) >= 64 && strings.Trim(name[len(name)-64:], "0123456789abcdef") == ""
}

// upTo returns the entries after which RTMR2 is what a quote says: they are in the
// kernel's list before it extends.
func (o *osLog) upTo(rtmr2 hw.Digest) ([]osEntry, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, err := o.tail.Update(); err != nil {
		return nil, err
	}
	if o.failed != nil {
		return nil, o.failed
	}
	for _, from := range []struct {
		count int
		value hw.Digest
	}{{o.known, o.at}, {0, o.booted}} { // a quote may be older than the last one's
		value := from.value
		for n := from.count; ; n++ {
			if value == rtmr2 {
				o.known, o.at = n, value
				return o.entries[:n:n], nil
			}
			if n == len(o.entries) {
				break
			}
			value = value.Extend(o.entries[n].digest)
		}
	}
	return nil, fmt.Errorf("RTMR2 is %.16s…, which the IMA log's %d entries don't lead to", rtmr2, len(o.entries))
}

// first are the entries that an order has.
func (o *osLog) first(runs []mergedRun) []osEntry {
	if len(runs) == 0 {
		return nil
	}
	n := runs[len(runs)-1].ima
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.entries[:n:n]
}

// shown are the entries as a container may see them, or the host: its own in
// full, the others as digests, unless it sees all.
func (o *osLog) shown(rtmr2 hw.Digest, cgroup string, whole bool) ([]rpc.OSLog, error) {
	entries, err := o.upTo(rtmr2)
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

// shownTo says whether a container sees an entry whole: the first, its own, or all
// where nobody is isolated.
func (e *osEntry) shownTo(cgroup string, whole bool) bool {
	return e.line != "" && (whole || e.first || isOwn(e.cgroup, cgroup))
}

// isOwn says whether an entry's cgroup is a container's declared one, or made
// below it and no other container's. The kernel writes spaces as underscores.
func isOwn(path, declared string) bool {
	declared = strings.ReplaceAll(strings.TrimRight(declared, "/"), " ", "_")
	below, ok := strings.CutPrefix(path, declared)
	return declared != "" && ok && (below == "" || below[0] == '/') && !isContainers(below)
}

// shownOSLog is what a run takes beside its entries.
const shownOSLog = int64(len(`{"register":"rtmr2","format":"ima-digests","entries":""},`))

// osLogs are evidence's os_logs.
func (d *Daemon) osLogs(s *subject, rtmr2 hw.Digest) ([]rpc.OSLog, error) {
	if d.osLog == nil {
		return nil, nil
	}
	list, err := d.osLog.shown(rtmr2, s.cgroup(), d.config().Isolation == config.IsolationNone)
	if err != nil {
		return nil, err
	}
	size := int64(0)
	for _, l := range list {
		size += shownOSLog + int64(base64.StdEncoding.EncodedLen(len(l.Entries)))
	}
	most := d.budget().OSLogs(&d.config().Limits)
	if size > most/2 && !d.osLog.warned.Swap(true) {
		d.log.Warn("the kernel's IMA log takes more than half of its room in evidence; raise limits.evidence_reply and reload", "bytes", size, "room", most)
	}
	if size > most {
		return nil, rpc.TooLarge(most, "the kernel's IMA log takes %d bytes of evidence: limits.evidence_reply leaves %d for it", size, most)
	}
	return list, nil
}
