package peer

import (
	"io"
	"os"
	"os/user"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxSubUIDs is the most bytes that are read of /etc/subuid.
const maxSubUIDs = 1 << 20

// users maps uids to users. /etc/subuid gives a user more uids, for user namespaces;
// the user is charged for all of them.
type users struct {
	file string

	mu      sync.Mutex
	written time.Time
	size    int64
	ranges  []uidRange
}

// uidRange is count subordinate uids of owner, from first on.
type uidRange struct{ first, count, owner uint32 }

// of returns the user of a process of the host. Its cgroup counts first: root owns
// user.slice, and a session can't leave the slice of its user.
func (u *users) of(uid uint32, systemd string) uint32 {
	if uid == 0 {
		return 0
	}
	if slice, ok := strings.CutPrefix(systemd, "/user.slice/user-"); ok {
		name, _, _ := strings.Cut(slice, "/")
		if number, ok := strings.CutSuffix(name, ".slice"); ok {
			if owner, err := strconv.ParseUint(number, 10, 32); err == nil {
				return uint32(owner)
			}
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.refresh()
	for _, r := range u.ranges {
		if uid >= r.first && uid-r.first < r.count {
			return r.owner
		}
	}
	return uid
}

// refresh reads the file again if it has changed.
func (u *users) refresh() {
	info, err := os.Stat(u.file)
	if err != nil {
		u.ranges, u.size = nil, 0
		return
	}
	if info.ModTime().Equal(u.written) && info.Size() == u.size {
		return
	}
	f, err := os.Open(u.file)
	if err != nil {
		return
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSubUIDs))
	if err != nil {
		return
	}
	u.ranges, u.written, u.size = parseSubUIDs(string(text), lookUpUID), info.ModTime(), info.Size()
}

func lookUpUID(name string) (uint32, bool) {
	found, err := user.Lookup(name)
	if err != nil {
		return 0, false
	}
	uid, err := strconv.ParseUint(found.Uid, 10, 32)
	return uint32(uid), err == nil
}

// parseSubUIDs reads lines of subuid(5): user or uid, first, count. It skips other
// lines.
func parseSubUIDs(text string, lookUp func(string) (uint32, bool)) (ranges []uidRange) {
	for line := range strings.Lines(text) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if len(fields) != 3 {
			continue
		}
		owner, known := lookUp(fields[0])
		if number, err := strconv.ParseUint(fields[0], 10, 32); err == nil {
			owner, known = uint32(number), true
		}
		first, err1 := strconv.ParseUint(fields[1], 10, 32)
		count, err2 := strconv.ParseUint(fields[2], 10, 32)
		if known && err1 == nil && err2 == nil && first > 0 {
			ranges = append(ranges, uidRange{uint32(first), uint32(count), owner})
		}
	}
	return ranges
}
