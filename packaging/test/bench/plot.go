package main

import (
	"bytes"
	"fmt"
	"html"
	"math"
)

// Sizes of a plot, in pixels.
const (
	plotWidth  = 860
	plotLabels = 330 // for the names on the left
	plotBar    = 16
	plotGap    = 12
)

// plot draws each row's rates as bars. The longest bar of a row fills the
// width, so that ratios are visible whatever the rates are. A line shows the
// quartiles.
func (p *part) plot(title string) []byte {
	var b bytes.Buffer
	y := 40
	for _, r := range p.Rows {
		fmt.Fprintf(&b, `<text x="8" y="%d" font-weight="bold">%s</text>`+"\n", y, html.EscapeString(r.Name))
		y += 8
		longest := 0.0
		for _, as := range r.As {
			longest = max(longest, r.rateQuartile(as, 3))
		}
		for i, as := range r.As {
			r.bar(&b, i, as, y, longest)
			y += plotBar + 3
		}
		y += plotGap + 12
	}
	head := fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n"+
		`<rect width="100%%" height="100%%" fill="white"/>`+"\n"+`<text x="8" y="18" font-size="14">%s: per second, median and quartiles; each group has its own scale</text>`+"\n",
		plotWidth, y, html.EscapeString(title))
	return append([]byte(head), append(b.Bytes(), "</svg>\n"...)...)
}

func (r *row) rateQuartile(as string, quarter int) float64 {
	var v []float64
	for _, one := range r.Results[as] {
		v = append(v, one.Rate)
	}
	return quartile(v, quarter)
}

func (r *row) bar(b *bytes.Buffer, i int, as string, y int, longest float64) {
	if longest == 0 {
		return
	}
	colours := []string{"#888888", "#1b6ca8", "#6fa8d6", "#d9822b"}
	length := func(v float64) int { return int(math.Round(v / longest * (plotWidth - plotLabels - 90))) }
	m := r.rateQuartile(as, 2)
	middle := y + plotBar/2
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end">%s</text>`, plotLabels-8, middle+4, html.EscapeString(as))
	fmt.Fprintf(b, `<rect x="%d" y="%d" width="%d" height="%d" fill="%s"/>`, plotLabels, y, length(m), plotBar, colours[i%len(colours)])
	from, to := plotLabels+length(r.rateQuartile(as, 1)), plotLabels+length(r.rateQuartile(as, 3))
	fmt.Fprintf(b, `<path d="M%d %dH%d" stroke="black"/>`, from, middle, to)
	fmt.Fprintf(b, `<text x="%d" y="%d">%.0f</text>`+"\n", max(to, plotLabels+length(m))+6, middle+4, m)
}
