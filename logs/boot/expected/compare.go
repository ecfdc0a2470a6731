package expected

import (
	"slices"

	"github.com/cima-project/cima/logs/boot"
)

// How an event of a log, or one that is expected, fared.
const (
	Predicted  = "predicted" // it is as expected
	NotKnown   = "open"      // an event is expected there, and nothing is known of it
	Recognised = "known"     // an open event that is one of those that explain a log
	Unlike     = "differs"   // another event is expected there
	Missing    = "missing"   // it is expected, and the log has none
	Extra      = "extra"     // the log has it, and none is expected
)

// Line is one line of a comparison.
type Line struct {
	Register int
	Number   int         // of the event in the log, -1 where the log has none
	Event    *boot.Event // nil where the log has none
	Verdict  string
	Want     *Event  // nil where none is expected
	Is       *Choice // what the event is known to be
}

// Comparison is a log held against a boot.
type Comparison struct {
	Lines  []Line
	Counts map[string]int // by verdict
}

// Agrees reports whether nothing of the log differs from what is expected.
func (c *Comparison) Agrees() bool {
	return c.Counts[Unlike]+c.Counts[Missing]+c.Counts[Extra] == 0
}

// logged is an event of one register.
type logged struct {
	number int
	event  boot.Event
}

// Against holds a log against the boot, event by event. What it costs grows with the log
// and the boot, and not with their product.
func (b *Boot) Against(log *boot.Log) *Comparison {
	var events [3][]logged
	for i, e := range log.UnverifiedEvents() {
		if rtmr, ok := e.Extends(); ok && rtmr < 3 {
			events[rtmr] = append(events[rtmr], logged{i, e})
		}
	}
	c := &Comparison{Counts: make(map[string]int)}
	known := make(map[[48]byte]*Choice)
	for i := range b.Others {
		known[b.Others[i].Digest] = &b.Others[i]
	}
	for r, want := range b.Registers {
		for i := range want {
			for k := range want[i].Choices {
				known[want[i].Choices[k].Digest] = &want[i].Choices[k]
			}
		}
		if want != nil {
			w := &walk{c: c, register: r, want: want, got: events[r], known: known}
			w.index()
			w.run()
		}
	}
	return c
}

// walk goes through one register.
type walk struct {
	c          *Comparison
	register   int
	want       []Event
	got        []logged
	known      map[[48]byte]*Choice
	inLog      map[[48]byte][]int // places of a digest in the log
	inBoot     map[[48]byte][]int // places where it is expected
	next, from int                // in got, in want
}

func (w *walk) index() {
	w.inLog, w.inBoot = make(map[[48]byte][]int), make(map[[48]byte][]int)
	for i, g := range w.got {
		w.inLog[g.event.Digest] = append(w.inLog[g.event.Digest], i)
	}
	for i, e := range w.want {
		for _, c := range e.Choices {
			w.inBoot[c.Digest] = append(w.inBoot[c.Digest], i)
		}
	}
}

func (w *walk) say(verdict string, number int, want *Event) {
	l := Line{Register: w.register, Number: -1, Verdict: verdict, Want: want}
	if number >= 0 {
		l.Number, l.Event = w.got[number].number, &w.got[number].event
		l.Is = w.known[l.Event.Digest]
	}
	if l.Verdict == NotKnown && l.Is != nil {
		l.Verdict = Recognised
	}
	verdict = l.Verdict
	w.c.Lines = append(w.c.Lines, l)
	w.c.Counts[verdict]++
}

func (w *walk) run() {
	for w.from < len(w.want) {
		e := &w.want[w.from]
		switch {
		case e.Many:
			w.from++
			for end := w.end(); w.next < end; w.next++ {
				w.say(NotKnown, w.next, e)
			}
		case w.next == len(w.got):
			w.say(Missing, -1, e)
			w.from++
		case e.has(w.got[w.next].event.Digest):
			w.say(Predicted, w.next, e)
			w.next, w.from = w.next+1, w.from+1
		case len(e.Choices) == 0:
			w.say(NotKnown, w.next, e)
			w.next, w.from = w.next+1, w.from+1
		default:
			w.differ(e)
		}
	}
	for ; w.next < len(w.got); w.next++ {
		w.say(Extra, w.next, nil)
	}
}

func (e *Event) has(digest [48]byte) bool {
	return slices.ContainsFunc(e.Choices, func(c Choice) bool { return c.Digest == digest })
}

// end is where events that nobody knows end: before the next known one, if the log has it.
func (w *walk) end() int {
	for _, e := range w.want[w.from:] {
		first := len(w.got)
		for _, c := range e.Choices {
			if at := after(w.inLog[c.Digest], w.next); at >= 0 {
				first = min(first, at)
			}
		}
		if first < len(w.got) {
			return first
		}
		if len(e.Choices) > 0 {
			return w.next // it is not there: let what follows say so
		}
	}
	return len(w.got)
}

// after is the first place at or behind another, -1 for none.
func after(places []int, from int) int {
	i, _ := slices.BinarySearch(places, from)
	if i == len(places) {
		return -1
	}
	return places[i]
}

// differ decides which side is ahead where an event is not as expected: the side whose
// event the other one has soonest. Where neither has it, both go on.
func (w *walk) differ(e *Event) {
	later := -1 // where the log has what is expected now
	for _, c := range e.Choices {
		if at := after(w.inLog[c.Digest], w.next); at >= 0 && (later < 0 || at < later) {
			later = at
		}
	}
	sooner := after(w.inBoot[w.got[w.next].event.Digest], w.from) // where the log's event is expected
	switch {
	case later >= 0 && (sooner < 0 || later-w.next <= sooner-w.from):
		w.say(Extra, w.next, nil)
		w.next++
	case sooner >= 0:
		w.say(Missing, -1, e)
		w.from++
	default:
		w.say(Unlike, w.next, e)
		w.next, w.from = w.next+1, w.from+1
	}
}
