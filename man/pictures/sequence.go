package main

import (
	"fmt"
	"unicode/utf8"
)

// Sizes of a sequence.
const (
	actorWidth  = 182
	actorHeight = 56
	actorGap    = 34
	actDown     = 12 // between what happens
	noteWidth   = 300
)

// sequence draws actors side by side, and what they do from top to bottom.
func (p *picture) sequence(c *canvas) {
	at := make(map[string]int)
	for i, a := range p.actors {
		x := marginLeft + i*(actorWidth+actorGap)
		at[a.name] = x + actorWidth/2
		c.reach(x+actorWidth, 0)
	}
	// Lives are drawn first, below all else: so their end must be known.
	y := marginTop/2 + actorHeight + 10
	var tops []int
	for _, a := range p.acts {
		tops = append(tops, y)
		y += actDown + len(a.label)*lineHeight
		if a.to == "" {
			y += 12
		} else {
			y += 8
		}
	}
	for _, a := range p.actors {
		fmt.Fprintf(&c.b, `<path class="life" d="M%d %dV%d"/>`+"\n", at[a.name], marginTop/2+actorHeight, y+8)
		c.labelled(a.kind, at[a.name]-actorWidth/2, marginTop/2, actorWidth, actorHeight, a.label)
	}
	whole := c.width
	for i, a := range p.acts {
		if a.to == "" {
			c.note(at[a.from], tops[i], whole, a.label)
			continue
		}
		c.said(at[a.from], at[a.to], tops[i], a.label)
	}
	c.reach(whole+marginLeft, y+20)
}

// said draws an arrow below its words.
func (c *canvas) said(from, to, y int, label []string) {
	for i, line := range label {
		c.fits(line, max(abs(from-to), actorWidth+actorGap)-10, letter)
		c.text("m halo", (from+to)/2, y+13+i*lineHeight, line)
	}
	y += len(label)*lineHeight + 6
	end := to - 3
	if to < from {
		end = to + 3
	}
	c.line(from, y, end, y, false)
}

// note draws what one does by itself, on its life or as near as the picture lets it.
func (c *canvas) note(at, y, whole int, label []string) {
	width := 0
	for _, line := range label {
		c.fits(line, noteWidth-16, letter)
		width = max(width, int(float64(utf8.RuneCountInString(line))*letter)+16)
	}
	x := min(max(at-width/2, marginLeft), whole-width)
	c.rect("ours", x, y+4, width, len(label)*lineHeight+8)
	for i, line := range label {
		c.text("m", x+width/2, y+4+16+i*lineHeight, line)
	}
}
