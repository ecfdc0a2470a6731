package metrics

import (
	"strconv"
	"strings"
	"time"
)

// Text is Prometheus' text form, version 0.0.4: what its scrapers and
// node_exporter's textfile collector read.
type Text struct {
	strings.Builder
	name string // of the family that samples are added to
}

// Kinds of metrics.
const (
	Counter       = "counter"
	Gauge         = "gauge"
	HistogramKind = "histogram"
)

// Family begins a metric. Names are cima_…, in base units, counters end in
// _total (Prometheus' naming practices).
func (x *Text) Family(name, kind, help string) {
	x.name = "cima_" + name
	x.WriteString("# HELP " + x.name + " " + help + "\n# TYPE " + x.name + " " + kind + "\n")
}

// Sample adds a value; labels are pairs of name and value.
func (x *Text) Sample(value float64, labels ...string) { x.line("", value, labels) }

func (x *Text) line(suffix string, value float64, labels []string) {
	x.WriteString(x.name + suffix)
	for i := 0; i < len(labels); i += 2 {
		x.WriteString([]string{"{", ","}[min(i, 1)] + labels[i] + `="` + escapeLabel.Replace(labels[i+1]) + `"`)
	}
	if len(labels) > 0 {
		x.WriteByte('}')
	}
	x.WriteString(" " + strconv.FormatFloat(value, 'g', -1, 64) + "\n")
}

var escapeLabel = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// Histogram adds a histogram's samples, in seconds.
func (x *Text) Histogram(h *Histogram, labels ...string) {
	count, upTo, sum := h.Read()
	for i, n := range upTo {
		x.line("_bucket", float64(n), append(labels[:len(labels):len(labels)], "le", seconds(Bounds[i])))
	}
	x.line("_bucket", float64(count), append(labels[:len(labels):len(labels)], "le", "+Inf"))
	x.line("_sum", sum.Seconds(), labels)
	x.line("_count", float64(count), labels)
}

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'g', -1, 64) }

// One is a family of one sample without labels.
func (x *Text) One(name, kind, help string, value float64) {
	x.Family(name, kind, help)
	x.Sample(value)
}
