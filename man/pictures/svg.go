package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"unicode/utf8"
)

// canvas collects the elements of a picture. Its unit is a pixel.
type canvas struct {
	b             bytes.Buffer
	width, height int
	err           error
}

// Sizes of letters, and what the widest common font takes for one (DejaVu Sans, on average).
const (
	lineHeight = 17
	letter     = 6.9 // of 12 pixels
	bold       = 8.4 // of 13 pixels, bold
)

// style is both the light one and the dark one: whoever shows the picture says which.
const style = `svg{--bg:#fff;--fg:#16191d;--soft:#565d66;--line:#8b929a;--box:#f5f6f8;--ours:#e1ecf8;--result:#e3f5e6}
@media (prefers-color-scheme:dark){svg{--bg:#14171a;--fg:#e8eaed;--soft:#a9b0b8;--line:#7a828b;--box:#1d2125;--ours:#15304b;--result:#10301a}}
.bg{fill:var(--bg)}text{fill:var(--fg);font:12px system-ui,"DejaVu Sans",sans-serif}.b{font-weight:600;font-size:13px}.s{fill:var(--soft)}.m{text-anchor:middle}.r{text-anchor:end}
.plain{fill:var(--box);stroke:var(--line)}.ours{fill:var(--ours);stroke:var(--line)}.result{fill:var(--result);stroke:var(--line)}
.g{fill:none;stroke:var(--line);stroke-dasharray:5 4}.l{fill:none;stroke:var(--line);stroke-width:1.5}.life{stroke:var(--line);stroke-dasharray:2 4}.h{fill:var(--line)}.halo{stroke:var(--bg);stroke-width:5;stroke-linejoin:round;paint-order:stroke}
`

// document is the whole picture, an SVG 1.1 document.
func (c *canvas) document(title, desc string) []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-labelledby="t d">`+"\n", c.width, c.height, c.width, c.height)
	fmt.Fprintf(&out, "<title id=\"t\">%s</title>\n<desc id=\"d\">%s</desc>\n<style>%s</style>\n", escaped(title), escaped(desc), style)
	out.WriteString(`<defs><marker id="a" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto-start-reverse"><path class="h" d="M0 0 10 5 0 10z"/></marker></defs>` + "\n")
	fmt.Fprintf(&out, `<rect class="bg" width="%d" height="%d"/>`+"\n", c.width, c.height)
	out.Write(c.b.Bytes())
	out.WriteString("</svg>\n")
	return out.Bytes()
}

func escaped(text string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(text)) // a buffer takes all
	return b.String()
}

// rect draws a frame.
func (c *canvas) rect(class string, x, y, width, height int) {
	fmt.Fprintf(&c.b, `<rect class="%s" x="%d" y="%d" width="%d" height="%d" rx="6"/>`+"\n", class, x, y, width, height)
	c.reach(x+width, y+height)
}

// text writes a line, its base at y. Its class says where x is: at its begin, middle or end.
func (c *canvas) text(class string, x, y int, text string) {
	fmt.Fprintf(&c.b, `<text class="%s" x="%d" y="%d">%s</text>`+"\n", class, x, y, escaped(text))
	c.reach(x, y)
}

// line draws a line, with a head at its end, or at both ends.
func (c *canvas) line(x1, y1, x2, y2 int, both bool) {
	start := ""
	if both {
		start = ` marker-start="url(#a)"`
	}
	fmt.Fprintf(&c.b, `<path class="l" d="M%d %dL%d %d"%s marker-end="url(#a)"/>`+"\n", x1, y1, x2, y2, start)
	c.reach(max(x1, x2), max(y1, y2))
}

func (c *canvas) reach(x, y int) { c.width, c.height = max(c.width, x), max(c.height, y) }

// fits notes an error where a line is wider than its place.
func (c *canvas) fits(text string, width int, perLetter float64) {
	if n := utf8.RuneCountInString(text); float64(n)*perLetter > float64(width) && c.err == nil {
		c.err = fmt.Errorf("%q has %d letters, and must have at most %d", text, n, int(float64(width)/perLetter))
	}
}

// labelled draws a box with its label in the middle. The first line is set off.
func (c *canvas) labelled(kind string, x, y, width, height int, label []string) {
	c.rect(kind, x, y, width, height)
	if len(label)*lineHeight+8 > height && c.err == nil {
		c.err = fmt.Errorf("%q has more lines than its box", label[0])
	}
	top := y + (height-len(label)*lineHeight)/2 + 13
	for i, line := range label {
		class, per := "m b", bold
		if i > 0 {
			class, per = "m s", letter
		}
		c.fits(line, width-12, per)
		c.text(class, x+width/2, top+i*lineHeight, line)
	}
}
