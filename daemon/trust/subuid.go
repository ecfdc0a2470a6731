package trust

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

// SubUIDs are the subordinate uids that a file gives to users, for their user namespaces
// (subuid(5)). Whoever has a uid may act as it. It may be used from many goroutines.
type SubUIDs struct {
	File string

	mu      sync.Mutex
	written time.Time
	size    int64
	ranges  []uidRange
}

// uidRange is count subordinate uids of owner, from first on.
type uidRange struct{ first, count, owner uint32 }

// Owner returns the user who has a uid, false if nobody does.
func (s *SubUIDs) Owner(uid uint32) (uint32, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refresh()
	for _, r := range s.ranges {
		if uid >= r.first && uid-r.first < r.count {
			return r.owner, true
		}
	}
	return 0, false
}

// refresh reads the file again if it has changed.
func (s *SubUIDs) refresh() {
	info, err := os.Stat(s.File)
	if err != nil {
		s.ranges, s.size = nil, 0
		return
	}
	if info.ModTime().Equal(s.written) && info.Size() == s.size {
		return
	}
	f, err := os.Open(s.File)
	if err != nil {
		return
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSubUIDs))
	if err != nil {
		return
	}
	s.ranges, s.written, s.size = parseSubUIDs(string(text), lookUpUID), info.ModTime(), info.Size()
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
