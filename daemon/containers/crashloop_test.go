package containers

import (
	"fmt"
	"testing"
	"time"
)

// A start counts once, wherever it is seen; six starts in ten minutes are a
// loop.
func TestStarts(t *testing.T) {
	begin := time.Now()
	type seen struct {
		record string
		inode  uint64
		after  time.Duration
	}
	times := func(n int, every time.Duration, inode func(i int) uint64) (all []seen) {
		for i := range n {
			all = append(all, seen{fmt.Sprint(i), inode(i), time.Duration(i) * every})
		}
		return all
	}
	gate := func(int) uint64 { return 0 }
	running := func(i int) uint64 { return uint64(i + 1) }
	for name, c := range map[string]struct {
		seen []seen
		want bool
	}{
		"five":                    {times(loopStarts, time.Second, gate), false},
		"six":                     {times(loopStarts+1, time.Second, gate), true},
		"six that were not gated": {times(loopStarts+1, time.Second, running), true},
		"five, each seen twice":   {append(times(loopStarts, time.Second, gate), times(loopStarts, time.Second, running)...), false},
		"one, seen six times":     {[]seen{{"a", 0, 0}, {"a", 0, 1}, {"a", 7, 2}, {"a", 7, 3}, {"a", 7, 4}, {"a", 7, 5}}, false},
		"six of one record":       {[]seen{{"a", 0, 0}, {"a", 1, 1}, {"a", 2, 2}, {"a", 3, 3}, {"a", 4, 4}, {"a", 5, 5}, {"a", 6, 6}}, true},
		"one in two minutes":      {times(20, 121*time.Second, gate), false},
		"one in a minute":         {times(20, time.Minute, gate), true},
	} {
		var s recentStarts
		at := begin
		for _, x := range c.seen {
			at = begin.Add(x.after)
			s.note("c", x.record, x.inode, at)
			s.note("other", fmt.Sprint(len(s.byOwner)), 0, at)
		}
		if got := s.loop("c", at); got != c.want {
			t.Errorf("%s: a loop: %t, want %t", name, got, c.want)
		}
		if s.loop("nobody", at) {
			t.Error("a container that never started is in a loop")
		}
		if s.loop("c", at.Add(loopWindow+time.Hour)) {
			t.Errorf("%s: a loop that ended goes on", name)
		}
		if n := len(s.byOwner["c"]); n > loopStarts+1 {
			t.Errorf("%s: %d starts are kept", name, n)
		}
		s.note("late", "a", 0, at.Add(loopWindow+time.Hour))
		if len(s.byOwner) != 1 {
			t.Errorf("%s: kept for ever: %v", name, s.byOwner)
		}
	}
}
