// Package expected answers: which events does a boot have, and where does a log have others?
//
// A boot is three sequences of events, those of RTMR0–2. An event is known by its digest,
// or it stays open, and says so. What other packages compute from files (logs/boot/direct,
// logs/boot/uki, logs/boot/grub, logs/boot/firmware) is put together here, extended to
// registers where nothing is open, and held against a boot log. It does no I/O.
package expected

import (
	"crypto/sha512"
	"slices"
)

// Event is a place in a sequence.
type Event struct {
	PCR     int      // where firmware with a TPM measures it; the register follows from it
	Kind    string   // what it is, in a word of a policy: "acpi"
	Many    bool     // any number of events, up to the next known one
	Choices []Choice // what it can be: one choice is known, several or none are open
}

// Choice is what an event can be.
type Choice struct {
	What   string // for people: "initrd"
	From   string // the file or the rule that it is computed from
	Digest [48]byte
}

// Boot are the events of RTMR0–2, in the order of each.
type Boot struct {
	Registers [3][]Event
	Line      string   // the kernel's command line
	Others    []Choice // digests that explain a log which is not as expected
	Notes     []string // for people: what stays open, and why
}

// Add appends events, each to its register.
func (b *Boot) Add(events ...Event) {
	for _, e := range events {
		r := e.register()
		b.Registers[r] = append(b.Registers[r], e)
	}
}

// register is the number of the RTMR that a TD extends for an event of a PCR (UEFI 2.10,
// section 38.4.1).
func (e Event) register() int {
	switch {
	case e.PCR <= 1 || e.PCR == 7:
		return 0
	case e.PCR <= 6:
		return 1
	}
	return 2
}

// Known is an event that is computed.
func Known(pcr int, kind, what, from string, digest [48]byte) Event {
	return Event{PCR: pcr, Kind: kind, Choices: []Choice{{what, from, digest}}}
}

// Of is an event whose digest is the SHA-384 of bytes.
func Of(pcr int, kind, what, from string, data []byte) Event {
	return Known(pcr, kind, what, from, sha512.Sum384(data))
}

// Open is one event of which nothing is known.
func Open(pcr int, kind string) Event { return Event{PCR: pcr, Kind: kind} }

// OpenMany are events of which nothing is known, up to the next known one.
func OpenMany(pcr int, kind string) Event { return Event{PCR: pcr, Kind: kind, Many: true} }

// IsKnown reports whether the event has one digest.
func (e Event) IsKnown() bool { return len(e.Choices) == 1 && !e.Many }

// Complete reports whether each event of a sequence is known, and there is one.
func Complete(events []Event) bool {
	return len(events) > 0 && !slices.ContainsFunc(events, func(e Event) bool { return !e.IsKnown() })
}

// Value is the register behind a sequence; false where an event is open.
func Value(events []Event) (register [48]byte, ok bool) {
	if !Complete(events) {
		return register, false
	}
	var both [96]byte
	for _, e := range events {
		copy(both[48:], e.Choices[0].Digest[:])
		register = sha512.Sum384(both[:])
		copy(both[:], register[:])
	}
	return register, true
}
