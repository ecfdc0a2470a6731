package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxViolations ends the soak: more violations would show nothing new.
const maxViolations = 50

// tally counts what happened and records violations.
type tally struct {
	mu     sync.Mutex
	counts map[string]int
	wrong  []string
	notes  []string
}

func newTally() *tally { return &tally{counts: make(map[string]int)} }

func (t *tally) count(what string) { t.add(what, 1) }

func (t *tally) add(what string, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts[what] += n
}

func (t *tally) of(what string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.counts[what]
}

// note keeps a line for the summary.
func (t *tally) note(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

// violate records a violation.
func (t *tally) violate(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	t.mu.Lock()
	t.wrong = append(t.wrong, text)
	t.mu.Unlock()
	say("VIOLATION: %s", text)
}

func (t *tally) violations() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.wrong)
}

// sawAll checks that each kind of call and failure happened: a soak without
// them finds nothing wrong.
func (t *tally) sawAll(d time.Duration) {
	wanted := []string{"evidences verified", "reports verified", "event logs replayed", "extends acknowledged", "events: exit"}
	if d >= time.Minute {
		wanted = append(wanted, "kills", "engine: restarts", "hardware: extend hangs", "misbehaviour: flood")
	}
	for _, what := range wanted {
		if t.of(what) == 0 {
			t.violate("of this nothing was seen: %s", what)
		}
	}
}

func (t *tally) progress() string {
	return fmt.Sprintf("%d containers, %d calls, %d evidences verified, %d extends acknowledged, %d kills, %d violations",
		t.of("containers"), t.of("calls"), t.of("evidences verified"), t.of("extends acknowledged"),
		t.of("kills")+t.of("upgrades")+t.of("restarts"), t.violations())
}

func (t *tally) summary() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	b.WriteString("\nsoak: what happened\n")
	for _, name := range slices.Sorted(maps.Keys(t.counts)) {
		fmt.Fprintf(&b, "  %-44s %8d\n", name, t.counts[name])
	}
	for _, n := range t.notes {
		fmt.Fprintf(&b, "  %s\n", n)
	}
	fmt.Fprintf(&b, "soak: %d violations\n", len(t.wrong))
	for _, w := range t.wrong[:min(len(t.wrong), maxViolations)] {
		fmt.Fprintf(&b, "  %s\n", w)
	}
	return b.String()
}
