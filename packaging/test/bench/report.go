package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// report is the results so far, by part.
type report struct {
	Parts map[string]*part `json:"parts"`
}

type part struct {
	Where      string            `json:"where"` // the client's place
	Begun      time.Time         `json:"begun"`
	Rounds     int               `json:"rounds"`
	Time       string            `json:"time"`
	LoadBefore string            `json:"load_before"`
	LoadAfter  string            `json:"load_after"`
	Notes      []string          `json:"notes,omitempty"`
	Memory     map[string]memory `json:"memory,omitempty"` // by server
	Rows       []*row            `json:"rows"`
}

// row is the result of a measurement: the rounds of each server, where round i
// of one belongs to round i of the others.
type row struct {
	Name    string              `json:"name"`
	Connect bool                `json:"connect,omitzero"`
	As      []string            `json:"as"` // in order
	Results map[string][]result `json:"results"`
}

func newRow(m measurement) *row {
	r := &row{Name: m.name, Connect: m.connect, Results: make(map[string][]result)}
	for _, run := range m.runs {
		r.As = append(r.As, run.as)
	}
	if len(m.runs) == 0 {
		r.As = []string{"hashing", "cima", "go-eventlog"}
	}
	return r
}

func readReport(dir string) report {
	r := report{Parts: make(map[string]*part)}
	text, err := os.ReadFile(filepath.Join(dir, "bench.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return r
	}
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil || r.Parts == nil {
		say("the former report can't be read, and is replaced: %v", err)
		return report{Parts: make(map[string]*part)}
	}
	return r
}

// quartile 2 is the median.
func quartile(v []float64, quarter int) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return v[(len(v)-1)*quarter/4]
}

func rate(r result) float64  { return r.Rate }
func p50(r result) float64   { return r.P50 }
func p99(r result) float64   { return r.P99 }
func both(r result) float64  { return r.CPU + r.Server }
func serve(r result) float64 { return r.Server }

func (r *row) median(as string, of func(result) float64) float64 {
	var v []float64
	for _, one := range r.Results[as] {
		v = append(v, of(one))
	}
	return quartile(v, 2)
}

// ratios are of one server to another, round by round.
func (r *row) ratios(as, to string, of func(result) float64) []float64 {
	var v []float64
	for i, one := range r.Results[as] {
		if i < len(r.Results[to]) {
			v = append(v, of(one)/of(r.Results[to][i]))
		}
	}
	return v
}

// byCPU is the ratio of the CPU time that server and client use for an answer:
// about the ratio of rates on a machine that does nothing else. On a busy
// machine each process gets its share, and a process that sleeps often looks
// worse.
func (r *row) byCPU(as, to string) float64 { return quartile(r.ratios(to, as, both), 2) }

func spread(v []float64) string {
	return fmt.Sprintf("%.3f (%.3f to %.3f)", quartile(v, 2), quartile(v, 1), quartile(v, 3))
}

func (r *row) summary() string {
	text := r.Name + ":"
	for _, as := range r.As {
		text += fmt.Sprintf(" %s %.0f/s;", as, r.median(as, rate))
	}
	return strings.TrimSuffix(text, ";")
}

func (r report) row(name string) *row {
	for _, p := range r.Parts {
		for _, row := range p.Rows {
			if row.Name == name {
				return row
			}
		}
	}
	return nil
}

func (r report) markdown() string {
	var b strings.Builder
	b.WriteString("# Speed\n\nThe real daemon on a simulated TD, identity and limits on, compared with a server that echoes single\nbytes (raw) and a gRPC service of CIMA 0.5's shape; each in its own process, driven by the same\nclient in turn. Ratios are of rounds side by side: median (quartiles); by\nCPU: of what server and client use for an answer, which says more where others use the machine, too.\n")
	for _, name := range []string{"calls", "log", "scale", "parse"} {
		if p := r.Parts[name]; p != nil {
			p.markdown(&b, name)
		}
	}
	b.WriteString("\n## Targets\n\n")
	for _, v := range r.verdicts() {
		fmt.Fprintf(&b, "- %s\n", v)
	}
	return b.String()
}

func (p *part) markdown(b *strings.Builder, name string) {
	fmt.Fprintf(b, "\n## %s\n\n%d rounds of %s, begun %s, load %s, at the end %s. The client is %s.\n", name, p.Rounds, p.Time,
		p.Begun.Format(time.RFC3339), p.LoadBefore, p.LoadAfter, p.Where)
	for _, note := range p.Notes {
		fmt.Fprintf(b, "%s.\n", note)
	}
	b.WriteString("\n| | | per second | p50 µs | p99 µs | CPU µs, server | CPU µs, both | of the first | by CPU |\n|---|---|--:|--:|--:|--:|--:|---|--:|\n")
	for _, r := range p.Rows {
		for i, as := range r.As {
			name, ratio, byCPU := "", "", ""
			if i == 0 {
				name = r.Name
			} else {
				ratio = spread(r.ratios(as, r.As[0], rate))
				byCPU = fmt.Sprintf("%.3f", r.byCPU(as, r.As[0]))
			}
			fmt.Fprintf(b, "| %s | %s | %.0f | %.0f | %.0f | %.1f | %.1f | %s | %s |\n", name, as, r.median(as, rate), r.median(as, p50),
				r.median(as, p99), r.median(as, serve), r.median(as, both), ratio, byCPU)
		}
	}
	if len(p.Memory) > 0 {
		b.WriteString("\nMemory, MiB (now, at most):")
		for _, name := range slices.Sorted(keys(p.Memory)) {
			fmt.Fprintf(b, " %s %d, %d;", name, p.Memory[name].Now>>10, p.Memory[name].Peak>>10)
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(b, "\n![%s](%s.svg)\n", name, name)
}

// write writes bench.md, bench.json and the plots to dir.
func (r report) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	files := map[string][]byte{"bench.json": append(data, '\n'), "bench.md": []byte(r.markdown())}
	for name, p := range r.Parts {
		files[name+".svg"] = p.plot(name)
	}
	for name, text := range files {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), text, 0o644))
	}
	return err
}
