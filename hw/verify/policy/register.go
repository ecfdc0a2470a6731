package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/match"
	"github.com/cima-project/cima/hw/verify/tables"
	"github.com/cima-project/cima/logs/boot"
)

// register is what a policy knows of a register: its value, or the sequence of its events.
// A set of events would leave their order and number to whoever writes the log.
type register struct {
	value    *hw.Digest
	sequence []item
}

// item is a place in a sequence.
type item struct {
	digest hw.Digest // zero where any event may stand
	kind   string    // "*acpi"; for people, no digest covers a type
	many   bool      // any number, up to the next digest
}

var kindWord = regexp.MustCompile(`^\*[a-z0-9][a-z0-9-]*(…|\.\.\.)?$`)

func isItem(s string) string {
	if kindWord.MatchString(s) || digest384(s) == "" {
		return ""
	}
	return `an event's digest in 96 lower-case hex digits, "*kind" for any one event, or "*kind…" for events up to the next digest`
}

// register reads a register: text is its value, an array its sequence.
func readRegister(t *tables.Table, name string) register {
	v, _ := t.Take(name)
	if _, isList := v.([]any); isList {
		return register{sequence: readSequence(t, name)}
	}
	s, _ := v.(string)
	if digestOrZero(s) != "" {
		t.Bad(name, "there: a value of 96 lower-case hex digits, %q, or an array with the digests of its events", zeroWord)
	}
	d := digestOf(s)
	return register{value: &d}
}

func readSequence(t *tables.Table, name string) (items []item) {
	literal, open := false, false
	for _, s := range t.Texts(name, isItem) {
		if !strings.HasPrefix(s, "*") {
			items, literal, open = append(items, item{digest: digestOf(s)}), true, false
			continue
		}
		if open {
			t.Bad(name, "a sequence in which a digest stands behind %s: where would it end?", items[len(items)-1].kind)
		}
		open = strings.HasSuffix(s, "…") || strings.HasSuffix(s, "...")
		items = append(items, item{kind: s, many: open})
	}
	if !literal {
		t.Bad(name, "a sequence with a digest: without one, nothing covers that part of the boot")
	}
	return items
}

// open reports whether any event may stand somewhere.
func (r register) open() bool {
	return slices.ContainsFunc(r.sequence, func(i item) bool { return i.kind != "" })
}

func (r register) has(digests [][48]byte) bool {
	return slices.ContainsFunc(r.sequence, func(i item) bool { return slices.Contains(digests, [48]byte(i.digest)) })
}

// eventsOf are a register's events in a boot log, indexed once for all sequences.
type eventsOf struct {
	digests []hw.Digest
	events  []boot.Event
	places  map[hw.Digest][]int
}

// indexLog indexes the events of RTMR0–2.
func indexLog(log *boot.Log) *[3]eventsOf {
	var all [3]eventsOf
	for i := range all {
		all[i].places = make(map[hw.Digest][]int)
	}
	for _, e := range log.UnverifiedEvents() { // proved by now: they replay to the quote's registers
		rtmr, ok := e.Extends()
		if !ok || rtmr < 0 || rtmr > 2 {
			continue
		}
		of := &all[rtmr]
		of.places[e.Digest] = append(of.places[e.Digest], len(of.digests))
		of.digests, of.events = append(of.digests, e.Digest), append(of.events, e)
	}
	return &all
}

// next is the first place of a digest at or behind i, -1 for none.
func (of *eventsOf) next(d hw.Digest, i int) int {
	places := of.places[d]
	n, _ := slices.BinarySearch(places, i)
	if n == len(places) {
		return -1
	}
	return places[n]
}

// difference describes something that is not as known, where somebody reads it.
type difference func() string

// differs says where a register is not as known, nil if it is. It costs no more than the
// sequence is long, whatever the log.
func (r register) differs(name string, got hw.Digest, of *eventsOf, work *match.Meter) difference {
	words := func(format string, args ...any) difference {
		return func() string { return fmt.Sprintf(format, args...) }
	}
	switch {
	case r.value != nil && *r.value == got:
		return nil
	case r.value != nil:
		return words("%s is %s, want %s", name, value(got), value(*r.value))
	case of == nil:
		return words("%s is known by its events, and there is no boot log", name)
	}
	i, open := 0, ""
	for n, want := range r.sequence {
		work.Add(1)
		switch {
		case want.many:
			open = want.kind
		case want.kind == "" && open != "":
			place := of.next(want.digest, i)
			if place < 0 {
				return words("%s has no event %.16s… behind %s", name, want.digest, open)
			}
			i, open = place+1, ""
		case i == len(of.digests):
			return words("%s ends after %d events, want %d, the next %s", name, i, len(r.sequence), want)
		case want.kind == "" && of.digests[i] != want.digest:
			return words("event %d of %s is %s, want %s (item %d)", i+1, name, shown{of, i}, want, n+1)
		default:
			i++
		}
	}
	if i < len(of.digests) && open == "" {
		return words("event %d of %s, %s, is one too many", i+1, name, shown{of, i})
	}
	return nil
}

func (i item) String() string {
	if i.kind != "" {
		return i.kind
	}
	return fmt.Sprintf("%.16s…", i.digest)
}

// shown is an event of a register. What it says of itself is not proved.
type shown struct {
	of *eventsOf
	i  int
}

func (s shown) String() string {
	e := &s.of.events[s.i]
	return fmt.Sprintf("%.16s… (called %s %s)", e.Digest, boot.TypeName(e.Type), tables.Clip(e.Detail()))
}

// value is a register's, as a policy writes it.
type value hw.Digest

func (v value) String() string { return ValueWord(hw.Digest(v)) }
