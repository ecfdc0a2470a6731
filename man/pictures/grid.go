package main

// Sizes of the grid.
const (
	boxWidth   = 236
	boxHeight  = 74
	gapAcross  = 150 // with room for an arrow's label
	gapDown    = 62
	marginLeft = 26
	marginTop  = 40
	groupPad   = 18
)

func (at cell) x() int { return marginLeft + (at.column-1)*(boxWidth+gapAcross) }
func (at cell) y() int { return marginTop + (at.row-1)*(boxHeight+gapDown) }

// grid draws boxes, what frames them, and arrows.
func (p *picture) grid(c *canvas) {
	for _, g := range p.groups {
		x, y := g.from.x()-groupPad, g.from.y()-groupPad
		c.rect("g", x, y, g.to.x()+boxWidth+groupPad-x, g.to.y()+boxHeight+groupPad-y)
		c.text("b s", x+8, y-6, g.label)
	}
	for _, h := range p.heads {
		c.text("m b s", cell{h.column, 1}.x()+boxWidth/2, marginTop-16, h.label)
	}
	at := make(map[string]cell)
	for _, b := range p.boxes {
		at[b.name] = b.at
		c.labelled(b.kind, b.at.x(), b.at.y(), boxWidth, boxHeight, b.label)
	}
	for _, a := range p.arrows {
		c.arrow(at[a.from], at[a.to], a)
	}
	c.reach(c.width+marginLeft, c.height+20)
}

func (c *canvas) arrow(from, to cell, a arrow) {
	if from.row == to.row {
		y := from.y() + boxHeight/2
		x1, x2 := from.x()+boxWidth+2, to.x()-3
		left := from.x() + boxWidth
		if to.column < from.column {
			x1, x2, left = from.x()-2, to.x()+boxWidth+3, to.x()+boxWidth
		}
		c.line(x1, y, x2, y, a.both)
		above := (len(a.label) + 1) / 2
		for i, line := range a.label {
			c.fits(line, gapAcross-8, letter)
			base := y - 7 - (above-1-i)*lineHeight
			if i >= above {
				base = y + 17 + (i-above)*lineHeight
			}
			c.text("m", left+gapAcross/2, base, line)
		}
		return
	}
	x := from.x() + boxWidth/2
	y1, y2, top := from.y()+boxHeight+2, to.y()-3, from.y()+boxHeight
	if to.row < from.row {
		y1, y2, top = from.y()-2, to.y()+boxHeight+3, to.y()+boxHeight
	}
	c.line(x, y1, x, y2, a.both)
	first := top + (gapDown-len(a.label)*lineHeight)/2 + 13
	for i, line := range a.label {
		c.fits(line, boxWidth/2+gapAcross-16, letter)
		c.text("halo", x+8, first+i*lineHeight, line)
	}
}
