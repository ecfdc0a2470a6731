package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rounds makes results with these rates, and with p99 and CPU time that follow
// from them.
func rounds(rates ...float64) (all []result) {
	for _, r := range rates {
		all = append(all, result{Answers: 1, Rate: r, P50: 1e6 / r, P99: 2e6 / r, Server: 1e6 / r})
	}
	return all
}

func someReport() report {
	one := newRow(measurement{name: rowOne, runs: []run{{as: "raw"}, {as: "cima"}, {as: "gRPC"}}})
	one.Results = map[string][]result{"raw": rounds(100, 200, 300), "cima": rounds(50, 80, 150), "gRPC": rounds(40, 50, 60)}
	held := newRow(measurement{name: rowScale, runs: []run{{as: "small"}, {as: "large"}}})
	held.Results = map[string][]result{"small": rounds(100, 100, 100), "large": rounds(100, 90, 50)}
	return report{Parts: map[string]*part{
		"calls": {Rows: []*row{one}},
		"scale": {Rows: []*row{held}, Memory: map[string]memory{"large": {Now: 100 << 10, Peak: 300 << 10}}},
	}}
}

// Ratios are of the same round, and the median decides.
func TestVerdicts(t *testing.T) {
	r := someReport()
	var all []string
	for _, v := range r.verdicts() {
		all = append(all, v.text)
	}
	text := strings.Join(all, "\n")
	for _, want := range []string{
		"met: GetCCMeasurement, 1 connection: cima: 0.500 (0.400 to 0.500) of raw (by CPU 0.500), target at least 0.33",
		"NOT met: GetCCMeasurement, 1 connection: cima: 1.600 (1.250 to 1.600) times gRPC with its own client (by CPU 1.600), target at least 1.80",
		"met: GetCCMeasurement, 1 connection, by what is held: large: 1.111 (1.000 to 1.111) times the daemon's CPU time with 100 events, target 0.85 to 1.15",
		"NOT met: memory of the daemon that holds most: 100 MiB, at most 300 MiB, target under 256",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("missing: %s\nin:\n%s", want, text)
		}
	}
	if r.met() {
		t.Error("all targets are reported as met")
	}
}

func TestReportIsKept(t *testing.T) {
	dir := t.TempDir()
	if r := readReport(dir); len(r.Parts) != 0 {
		t.Fatal("a report was read that does not exist")
	}
	if err := someReport().write(dir); err != nil {
		t.Fatal(err)
	}
	if got := readReport(dir); got.markdown() != someReport().markdown() {
		t.Errorf("read back:\n%s", got.markdown())
	}
}

func TestPlotIsXML(t *testing.T) {
	for name, p := range someReport().Parts {
		svg := string(p.plot(name + " <&>"))
		for d := xml.NewDecoder(strings.NewReader(svg)); ; {
			_, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%v in %s", err, svg)
			}
		}
		if n := strings.Count(svg, "<path"); n != len(p.Rows[0].As) {
			t.Errorf("%s: %d bars", name, n)
		}
	}
}

func TestQuartiles(t *testing.T) {
	v := []float64{5, 1, 4, 2, 3}
	for quarter, want := range []float64{1, 2, 3, 4, 5} {
		if got := quartile(v, quarter); got != want {
			t.Errorf("quartile %d is %v", quarter, got)
		}
	}
	if quartile(nil, 2) != 0 || v[0] != 5 {
		t.Error("the quartile of nothing must be 0, and the rounds must stay in order")
	}
}
