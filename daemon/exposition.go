package daemon

import (
	"strconv"
	"strings"
	"time"
)

// exposition is Prometheus' text form, version 0.0.4: what its scrapers and
// node_exporter's textfile collector read.
type exposition struct {
	strings.Builder
	name string // of the family that samples are added to
}

// Kinds of metrics.
const (
	counterKind   = "counter"
	gaugeKind     = "gauge"
	histogramKind = "histogram"
)

// family begins a metric. Names are cima_…, in base units, counters end in
// _total (Prometheus' naming practices).
func (x *exposition) family(name, kind, help string) {
	x.name = "cima_" + name
	x.WriteString("# HELP " + x.name + " " + help + "\n# TYPE " + x.name + " " + kind + "\n")
}

// sample adds a value; labels are pairs of name and value.
func (x *exposition) sample(value float64, labels ...string) { x.line("", value, labels) }

func (x *exposition) line(suffix string, value float64, labels []string) {
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

// histogram adds a histogram's samples, in seconds.
func (x *exposition) histogram(h *histogram, labels ...string) {
	count, upTo, sum := h.read()
	for i, n := range upTo {
		x.line("_bucket", float64(n), append(labels[:len(labels):len(labels)], "le", seconds(bounds[i])))
	}
	x.line("_bucket", float64(count), append(labels[:len(labels):len(labels)], "le", "+Inf"))
	x.line("_sum", sum.Seconds(), labels)
	x.line("_count", float64(count), labels)
}

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'g', -1, 64) }

// one is a family of one sample without labels.
func (x *exposition) one(name, kind, help string, value float64) {
	x.family(name, kind, help)
	x.sample(value)
}
