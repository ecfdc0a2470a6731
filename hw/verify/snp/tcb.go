package snp

import (
	"fmt"
	"strings"
)

// Line is a line of AMD's processors: it has a root, and an order of TCB_VERSION.
type Line string

// All lines. Bergamo and Siena are of Genoa's.
const (
	Milan Line = "Milan"
	Genoa Line = "Genoa"
	Turin Line = "Turin"
)

// Lines are all of them.
func Lines() []Line { return []Line{Milan, Genoa, Turin} }

// lineOf tells the line by CPUID's family and model; "" where it is not known.
func lineOf(family, model byte) Line {
	switch {
	case family == 0x19 && model <= 0x0F:
		return Milan
	case family == 0x19 && (model >= 0x10 && model <= 0x1F || model >= 0xA0 && model <= 0xAF):
		return Genoa
	case family == 0x1A && model <= 0x11:
		return Turin
	}
	return ""
}

// TCB is a TCB_VERSION: eight security version numbers, one byte each, in the report's
// order, which differs by line. They are compared part by part, never as a number.
type TCB [8]byte

// Part is a part of a TCB_VERSION.
type Part struct {
	Name  string // as policies have it, and AMD's service in lower case
	at    int    // byte of TCB_VERSION
	under int    // last arc of the extension of certificates: 1.3.6.1.4.1.3704.1.3.under
}

// Parts are those of a line that have a name.
func (l Line) Parts() []Part {
	if l == Turin {
		return []Part{{"fmc", 0, 9}, {"bl", 1, 1}, {"tee", 2, 2}, {"snp", 3, 3}, {"ucode", 7, 8}}
	}
	return []Part{{"bl", 0, 1}, {"tee", 1, 2}, {"snp", 6, 3}, {"ucode", 7, 8}}
}

// spare are the parts without a name, which certificates have all the same.
func (l Line) spare() []Part {
	if l == Turin {
		return []Part{{"spl5", 4, 5}, {"spl6", 5, 6}, {"spl7", 6, 7}}
	}
	return []Part{{"spl4", 2, 4}, {"spl5", 3, 5}, {"spl6", 4, 6}, {"spl7", 5, 7}}
}

// Of is the part's number in a TCB.
func (p Part) Of(t TCB) byte { return t[p.at] }

// Words name each part: "bl 4, tee 0, snp 24, ucode 219".
func (t TCB) Words(l Line) string {
	var words []string
	for _, p := range l.Parts() {
		words = append(words, fmt.Sprintf("%s %d", p.Name, p.Of(t)))
	}
	for _, p := range l.spare() {
		if n := p.Of(t); n != 0 {
			words = append(words, fmt.Sprintf("%s %d", p.Name, n))
		}
	}
	return strings.Join(words, ", ")
}
