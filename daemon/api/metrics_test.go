package api

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cima-project/cima/daemon/metrics"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// scraped is a text as a scraper reads it: values by name and labels.
type scraped struct {
	kinds  map[string]string
	values map[string]float64
}

var (
	metricName = regexp.MustCompile(`^cima_[a-z0-9_]+$`)
	sampleLine = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? ([^ ]+)$`)
	labelPair  = regexp.MustCompile(`^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)`)
)

// scrape reads Prometheus' text form strictly: it refuses what the parser and
// promtool check metrics refuse.
func scrape(text string) (s scraped, err error) {
	s = scraped{make(map[string]string), make(map[string]float64)}
	if !strings.HasSuffix(text, "\n") {
		return s, fmt.Errorf("the last line has no line feed")
	}
	family, helped := "", ""
	bounds := make(map[string]float64) // of the previous bucket, by the other labels
	counts := make(map[string]float64)
	for n, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		wrong := func(format string, args ...any) error {
			return fmt.Errorf("line %d, %q: %s", n+1, line, fmt.Sprintf(format, args...))
		}
		if rest, ok := strings.CutPrefix(line, "# HELP "); ok {
			name, help, _ := strings.Cut(rest, " ")
			if s.kinds[name] != "" || help == "" || !strings.HasSuffix(help, ".") {
				return s, wrong("help comes once, and is a sentence")
			}
			helped = name
			continue
		}
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, kind, _ := strings.Cut(rest, " ")
			switch {
			case name != helped || s.kinds[name] != "" || !metricName.MatchString(name):
				return s, wrong("a type comes once, behind its help")
			case !slices.Contains([]string{metrics.Counter, metrics.Gauge, metrics.HistogramKind}, kind):
				return s, wrong("no such type")
			case strings.HasSuffix(name, "_total") != (kind == metrics.Counter):
				return s, wrong("counters, and they alone, end in _total")
			case kind == metrics.HistogramKind && !strings.HasSuffix(name, "_seconds"):
				return s, wrong("histograms here are of seconds")
			}
			family, s.kinds[name] = name, kind
			continue
		}
		m := sampleLine.FindStringSubmatch(line)
		if m == nil {
			return s, wrong("no sample")
		}
		value, err := strconv.ParseFloat(m[3], 64)
		if err != nil || value < 0 {
			return s, wrong("a bad value: %v", err)
		}
		labels, bound := make(map[string]string), ""
		for rest := m[2]; rest != ""; {
			pair := labelPair.FindStringSubmatch(rest)
			if pair == nil {
				return s, wrong("bad labels")
			}
			if _, twice := labels[pair[1]]; twice {
				return s, wrong("a label twice")
			}
			if pair[1] == "le" {
				bound = pair[2]
			} else {
				labels[pair[1]] = pair[2]
			}
			rest = rest[len(pair[0]):]
		}
		others := family + fmt.Sprint(labels)
		switch suffix := strings.TrimPrefix(m[1], family); {
		case !strings.HasPrefix(m[1], family) || family == "":
			return s, wrong("a sample of another family")
		case (suffix == "_bucket") != (bound != ""):
			return s, wrong("buckets, and they alone, have a bound")
		case suffix == "_bucket":
			le, err := strconv.ParseFloat(bound, 64)
			if last, ok := bounds[others]; err != nil || ok && (le <= last || value < counts[others]) {
				return s, wrong("buckets rise: %v", err)
			}
			bounds[others], counts[others] = le, value
		case suffix == "_count":
			if bound := bounds[others]; value != counts[others] || bound < 1e300 {
				return s, wrong("the bucket +Inf is the count")
			}
		case suffix != "" && suffix != "_sum", (suffix == "_sum") != (s.kinds[family] == metrics.HistogramKind):
			return s, wrong("a sample that its type hasn't")
		}
		key := m[1] + fmt.Sprint(labels) + bound
		if _, twice := s.values[key]; twice {
			return s, wrong("a sample twice")
		}
		s.values[key] = value
	}
	return s, nil
}

func (s scraped) of(name string, labels ...string) float64 {
	m := make(map[string]string)
	for i := 0; i < len(labels); i += 2 {
		m[labels[i]] = labels[i+1]
	}
	return s.values[name+fmt.Sprint(m)]
}

func (f *fixture) metrics() scraped {
	f.t.Helper()
	text, err := f.adminClient().Metrics(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	s, err := scrape(text)
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

// The counters count what happened, and a scraper can read them.
func TestMetrics(t *testing.T) {
	f := newFixture(t)
	before := f.metrics()
	c := f.client()
	for range 3 {
		if err := c.Call(t.Context(), rpc.MethodGetCCMeasurement, rpc.CCMeasurementParams{Index: 0}, nil); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, c.Call(t.Context(), rpc.MethodGetCCMeasurement, rpc.CCMeasurementParams{Index: 3}, nil), rpc.CodeInvalidParams)
	for _, shared := range []bool{false, true, true} {
		if _, err := c.GetEvidence(t.Context(), rpc.EvidenceParams{Nonce: nonce, Shared: shared}); err != nil {
			t.Fatal(err)
		}
	}
	f.containers.Counts.Missed.Add(1)
	if err := f.ledger.Missed(t.Context(), logs.MissedLaunch, "why"); err != nil {
		t.Fatal(err)
	}
	after := f.metrics()
	for _, want := range []struct {
		name   string
		labels []string
		more   float64
	}{
		{"cima_request_duration_seconds_count", []string{"method", "GetCCMeasurement"}, 4},
		{"cima_request_duration_seconds_count", []string{"method", "GetEvidence"}, 3},
		{"cima_errors_total", []string{"code", "-32602"}, 1},
		{"cima_quotes_given_total", []string{"shared", "true"}, 2},
		{"cima_quotes_given_total", []string{"shared", "false"}, 1},
		{"cima_quotes_total", []string{"result", "ok"}, 3},
		{"cima_extends_total", []string{"result", "ok"}, 1},
		{"cima_missed_total", []string{"what", "launch"}, 1},
		{"cima_log_events_total", nil, 1},
		{"cima_connections_accepted_total", nil, 1},
	} {
		if got := after.of(want.name, want.labels...) - before.of(want.name, want.labels...); got != want.more {
			t.Errorf("%s %v rose by %v, want %v", want.name, want.labels, got, want.more)
		}
	}
	for name, least := range map[string]float64{
		"cima_process_resident_memory_bytes": 1 << 20, "cima_process_open_fds": 5, "cima_process_max_fds": 64,
		"cima_goroutines": 5, "cima_ready": 1, "cima_log_consistent": 1, "cima_log_bytes": 100,
		"cima_process_start_time_seconds": float64(time.Now().Add(-time.Hour).Unix()), "cima_connections": 1,
	} {
		if got := after.of(name); got < least {
			t.Errorf("%s is %v, less than %v", name, got, least)
		}
	}
	manual, err := os.ReadFile("../../man/cima-api.7.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(after.kinds)) {
		short := name
		if rest, ok := strings.CutPrefix(name, "cima_connections"); ok && rest != "" {
			short = strings.TrimSuffix(rest, "_accepted_total")
		}
		if !strings.Contains(string(manual), short) {
			t.Errorf("%s is not in cima-api(7)", name)
		}
	}
}

func TestScrapeIsStrict(t *testing.T) {
	x := new(metrics.Text)
	h := new(metrics.Histogram)
	h.Add(time.Microsecond)
	h.Add(time.Hour)
	x.Family("x_seconds", metrics.HistogramKind, "A sentence.")
	x.Histogram(h, "label", "a \"quoted\" \\ and\nnew")
	good := x.String()
	if s, err := scrape(good); err != nil || s.of("cima_x_seconds_count", "label", `a \"quoted\" \\ and\nnew`) != 2 {
		t.Fatalf("%v: %s", err, good)
	}
	for _, change := range [][2]string{
		{"# HELP cima_x_seconds A sentence.\n", ""},
		{"# TYPE cima_x_seconds histogram\n", "# TYPE cima_x_seconds counter\n"},
		{"cima_x_seconds_count{", "cima_y_seconds_count{"},
		{`le="0.001"`, `le="0.00001"`},
		{"} 1\n", "} 3\n"},
		{"_sum{", "_sun{"},
		{`\"quoted`, `"quoted`},
		{"# HELP", "# HALP"},
		{`le="+Inf"`, `le="60"`},
		{"} 2\n", "} two\n"},
	} {
		if bad := strings.Replace(good, change[0], change[1], 1); bad == good {
			t.Errorf("%q is not there", change[0])
		} else if _, err := scrape(bad); err == nil {
			t.Errorf("%q for %q was read", change[1], change[0])
		}
	}
}

func TestHistogramsAtOnce(t *testing.T) {
	h := new(metrics.Histogram)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 1000 {
				h.Add(metrics.Bounds[i])
			}
		})
	}
	wg.Wait()
	h.Add(time.Hour)
	count, upTo, sum := h.Read()
	if count != 8001 || upTo[0] != 1000 || upTo[7] != 8000 || upTo[len(upTo)-1] != 8000 || sum < time.Hour {
		t.Errorf("%d in all, %v, %v", count, upTo, sum)
	}
}
