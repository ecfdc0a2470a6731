package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// measurement is one line of the report.
type measurement struct {
	name        string
	request     string
	connections int
	connect     bool
	rounds      int     // at most; 0 is no limit of its own
	target      float64 // calls: at least so much of the limit; connect: below so many times its time; 0: none
}

// order tells the client to drive the daemon.
func (m measurement) order(took time.Duration) order {
	return order{Server: "cima", Request: m.request, Connections: m.connections, Connect: m.connect, Time: took}
}

// bare is the same for the bare server.
func (m measurement) bare(took time.Duration) order {
	return order{Server: "raw", Connections: m.connections, Connect: m.connect, Time: took}
}

func ask(method, params string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":%s}`, method, params)
}

func (s *stage) measurement() string {
	return ask("GetCCMeasurement", fmt.Sprintf(`{"index":%d}`, s.index))
}

// measurements are what is measured, and the targets of it (issues 3 and 12).
func (s *stage) measurements() []measurement {
	const nonce = `{"nonce":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}`
	return []measurement{
		{name: "GetCCMeasurement, 1 connection", request: s.measurement(), connections: 1, target: 0.33},
		{name: "GetCCMeasurement, 64 connections", request: s.measurement(), connections: 64, target: 0.30},
		{name: "connect, GetCCMeasurement, close", request: s.measurement(), connections: 1, connect: true, target: 3},
		{name: "GetCCMeasurement, 1000 connections", request: s.measurement(), connections: 1000, rounds: 5},
		{name: "GetCCEventLog, first 100 events", request: ask("GetCCEventLog", `{"count":100}`), connections: 1, rounds: 5},
		{name: "GetCCReport", request: ask("GetCCReport", nonce), connections: 1, rounds: 5},
		{name: "GetEvidence", request: ask("GetEvidence", nonce), connections: 1, rounds: 5},
	}
}

// row is what came of a measurement: medians, and quartiles of the ratio.
type row struct {
	Name    string    `json:"name"`
	Connect bool      `json:"connect"`
	Target  float64   `json:"target,omitempty"`
	Ratios  []float64 `json:"ratios"` // calls: ours to the limit's; connect: how many times its time
	Raw     []result  `json:"raw"`
	Ours    []result  `json:"ours"`
	CPU     float64   `json:"cpu_us"` // of the daemon, per answer
	RawCPU  float64   `json:"raw_cpu_us"`
}

func (r *row) add(limit, ours result) {
	r.Raw, r.Ours = append(r.Raw, limit), append(r.Ours, ours)
	ratio := ours.Rate / limit.Rate
	if r.Connect {
		ratio = 1 / ratio
	}
	r.Ratios = append(r.Ratios, ratio)
}

func answers(results []result) float64 {
	n := 0
	for _, r := range results {
		n += r.Answers
	}
	return float64(max(1, n))
}

// byCPU is the ratio of what server and client use for an answer: about what
// the ratio of rates would be with nothing else on the machine. Where there
// is, each process gets an equal share, and the dearer server looks worse.
func (r *row) byCPU() float64 {
	used := func(server float64, results []result) float64 {
		client := 0.0
		for _, r := range results {
			client += r.CPU
		}
		return server + client/answers(results)
	}
	return used(r.RawCPU, r.Raw) / used(r.CPU, r.Ours)
}

// quartile 2 is the median.
func quartile(v []float64, quarter int) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[(len(v)-1)*quarter/4]
}

func median(results []result, of func(result) float64) float64 {
	var v []float64
	for _, r := range results {
		v = append(v, of(r))
	}
	return quartile(v, 2)
}

func (r *row) rate(results []result) float64 {
	return median(results, func(r result) float64 { return r.Rate })
}

func (r *row) summary() string {
	return fmt.Sprintf("%.3f (%.3f to %.3f)", quartile(r.Ratios, 2), quartile(r.Ratios, 1), quartile(r.Ratios, 3))
}

func (r *row) met() bool {
	m := quartile(r.Ratios, 2)
	return r.Target == 0 || r.Connect && m < r.Target || !r.Connect && m >= r.Target
}

// verdict says in words whether the target was met.
func (r *row) verdict() string {
	wanted, word := fmt.Sprintf("at least %.2f of raw", r.Target), "met"
	if r.Connect {
		wanted = fmt.Sprintf("under %.0f times raw", r.Target)
	}
	if !r.met() {
		word = "NOT met"
	}
	return fmt.Sprintf("%s: %s: %s, target %s", word, r.Name, r.summary(), wanted)
}

// report is all of it.
type report struct {
	Where         string    `json:"where"`
	Begun         time.Time `json:"begun"`
	Rounds        int       `json:"rounds"`
	Time          string    `json:"time"`
	LoadBefore    string    `json:"load_before"`
	LoadAfter     string    `json:"load_after"`
	PeakMemoryKiB int       `json:"peak_memory_kib"` // of the daemon
	Rows          []row     `json:"rows"`
}

func (r report) met() bool {
	return !slices.ContainsFunc(r.Rows, func(row row) bool { return !row.met() })
}

func (r report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Speed\n\nThe real daemon on a simulated TD, identity and limits on, beside a server that gives back\nsingle bytes; each in its own process, driven by the same client in turn: %d rounds of %s.\n", r.Rounds, r.Time)
	fmt.Fprintf(&b, "The client is %s.\nBegun %s, load %s; at the end %s. The daemon's memory at its most: %d KiB.\n\n", r.Where, r.Begun.Format(time.RFC3339), r.LoadBefore, r.LoadAfter, r.PeakMemoryKiB)
	fmt.Fprintf(&b, "| %-34s | %8s | %-15s | %6s | %8s | %8s | %11s | %13s | %11s |\n", "", "ratio", "quartiles", "by CPU", "cima/s", "raw/s", "p50 µs, raw", "p99 µs, raw", "CPU µs, raw")
	b.WriteString("|---|---|---|---|---|---|---|---|---|\n")
	for _, row := range r.Rows {
		ratio := fmt.Sprintf("%.3f", quartile(row.Ratios, 2))
		if row.Connect {
			ratio = fmt.Sprintf("1/%.2f", quartile(row.Ratios, 2))
		}
		p50, p99 := func(r result) float64 { return r.P50 }, func(r result) float64 { return r.P99 }
		fmt.Fprintf(&b, "| %-34s | %8s | %-15s | %6.3f | %8.0f | %8.0f | %5.0f %5.0f | %6.0f %6.0f | %6.1f %4.1f |\n", row.Name, ratio,
			fmt.Sprintf("%.3f to %.3f", quartile(row.Ratios, 1), quartile(row.Ratios, 3)), row.byCPU(), row.rate(row.Ours), row.rate(row.Raw),
			median(row.Ours, p50), median(row.Raw, p50), median(row.Ours, p99), median(row.Raw, p99), row.CPU, row.RawCPU)
	}
	b.WriteString("\nBy CPU: what server and client use for an answer, raw to ours. With much load from others it\nsays more than the ratio of rates: each process then gets its share, whatever it needs.\n\n")
	for _, row := range r.Rows {
		if row.Target != 0 {
			fmt.Fprintf(&b, "- %s\n", row.verdict())
		}
	}
	return b.String()
}

// write leaves bench.md and bench.json in dir.
func (r report) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "bench.json"), append(data, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "bench.md"), []byte(r.markdown()), 0o644)
}
