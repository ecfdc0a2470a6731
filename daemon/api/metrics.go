package api

import (
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/metrics"
	"github.com/cima-project/cima/rpc"
)

// metrics writes the daemon's counters and histograms in Prometheus' text form
// (cima-api(7), METRICS).
func (a *API) metrics(s rpc.Status) string {
	x := new(metrics.Text)
	x.Family("build_info", metrics.Gauge, "The version that runs.")
	x.Sample(1, "version", s.Version)
	x.One("ready", metrics.Gauge, "1 while evidence can be had.", truth(s.Ready))
	callMetrics(x, a, s)
	hardwareMetrics(x, a)
	gateMetrics(x, a)
	log := a.Ledger.Status()
	x.One("log_events_total", metrics.Counter, "Events in the runtime log of this boot.", float64(log.Events))
	x.One("log_bytes", metrics.Gauge, "Bytes of the runtime log.", float64(log.Bytes))
	x.One("log_limit_bytes", metrics.Gauge, "Bytes that the runtime log may have.", float64(a.Config().Limits.LogBytes))
	x.One("log_containers", metrics.Gauge, "Containers that the runtime log names.", float64(log.Containers))
	x.One("log_consistent", metrics.Gauge, "0 once log and RTMR3 disagree.", truth(s.Log.Consistent))
	x.One("containers", metrics.Gauge, "Containers that run or are connected.", float64(s.Container))
	x.One("journal_left_out_total", metrics.Counter, "Messages that the journal's bounds left out.", float64(a.LeftOut()))
	processMetrics(x, a.Started)
	return x.String()
}

func callMetrics(x *metrics.Text, a *API, s rpc.Status) {
	x.Family("request_duration_seconds", metrics.HistogramKind, "Requests by method, and how long their answers took.")
	for _, name := range slices.Sorted(maps.Keys(a.counters.byMethod)) {
		x.Histogram(a.counters.byMethod[name], "method", name)
	}
	x.Family("errors_total", metrics.Counter, "Requests refused, by code (cima-api(7), ERRORS).")
	for _, code := range slices.Sorted(maps.Keys(s.Errors)) {
		x.Sample(float64(s.Errors[code]), "code", code)
	}
	x.One("connections", metrics.Gauge, "Connections open on the callers' socket.", float64(s.Server.Connections))
	x.One("callers", metrics.Gauge, "Callers with a connection.", float64(s.Server.Callers))
	x.One("connections_accepted_total", metrics.Counter, "Connections taken.", float64(s.Server.Accepted))
	x.One("connections_refused_total", metrics.Counter, "Connections turned away at a limit.", float64(s.Server.Refused))
	x.One("connections_dropped_total", metrics.Counter, "Connections closed for breaking a limit of the protocol.", float64(s.Server.Dropped))
	x.One("held_bytes", metrics.Gauge, "Long lines and replies held for callers.", float64(s.Server.Memory))
}

func hardwareMetrics(x *metrics.Text, a *API) {
	c := &a.TEE.Counts
	x.Family("extends_total", metrics.Counter, "Extends of RTMR3, by what the hardware said.")
	x.Sample(float64(c.Extends.Done.Load()), "result", "ok")
	x.Sample(float64(c.Extends.Failed.Load()), "result", "error")
	x.Family("extend_duration_seconds", metrics.HistogramKind, "How long extends took.")
	x.Histogram(&c.Extends.Took)
	x.Family("quotes_total", metrics.Counter, "Quotes asked of the hardware, by what it said.")
	x.Sample(float64(c.Quotes.Done.Load()), "result", "ok")
	x.Sample(float64(c.Quotes.Failed.Load()), "result", "error")
	x.Family("quote_duration_seconds", metrics.HistogramKind, "How long quotes took, without waiting for a turn.")
	x.Histogram(&c.Quotes.Took)
	x.Family("quotes_given_total", metrics.Counter, "Quotes that callers were given, by whether they share them.")
	x.Sample(float64(a.given.alone.Load()), "shared", "false")
	x.Sample(float64(a.given.shared.Load()), "shared", "true")
	x.One("quotes_waiting", metrics.Gauge, "Quotes that wait for their turn.", float64(a.queue.Waiting()))
}

func gateMetrics(x *metrics.Text, a *API) {
	starts, executions := a.Starts, a.Execs()
	x.Family("gate_hold_duration_seconds", metrics.HistogramKind, "Processes held at the gate, and for how long until it was decided.")
	x.Histogram(&starts.Held, "of", "runtime")
	x.Histogram(&executions.Held, "of", "exec")
	x.Family("missed_total", metrics.Counter, "What could not be measured in time.")
	x.Sample(float64(starts.Missed.Load()), "what", "launch")
	x.Sample(float64(executions.Missed.Load()), "what", "exec")
	x.One("launches_repeated_total", metrics.Counter, "Starts in a crash loop, measured at the gate and not logged at once.", float64(starts.Repeated.Load()))
}

// processMetrics writes the metrics that Prometheus' own client libraries write of a
// process. A metric that can't be read is left out.
func processMetrics(x *metrics.Text, started time.Time) {
	x.One("process_start_time_seconds", metrics.Gauge, "When the daemon started, in seconds since 1970.", float64(started.UnixMilli())/1000)
	var used unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &used) == nil {
		cpu := time.Duration(used.Utime.Nano() + used.Stime.Nano())
		x.One("process_cpu_seconds_total", metrics.Counter, "CPU time used.", cpu.Seconds())
	}
	if n, err := residentBytes(); err == nil {
		x.One("process_resident_memory_bytes", metrics.Gauge, "Resident memory.", float64(n))
	}
	if open, err := os.ReadDir("/proc/self/fd"); err == nil {
		x.One("process_open_fds", metrics.Gauge, "Open descriptors.", float64(len(open)-1)) // this one's own
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		x.One("process_max_fds", metrics.Gauge, "Descriptors that may be open.", float64(limit.Cur))
	}
	x.One("goroutines", metrics.Gauge, "Goroutines.", float64(runtime.NumGoroutine()))
}

// residentBytes reads the second field of statm (proc_pid_statm(5)).
func residentBytes() (int64, error) {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), " ")
	pages, _, _ := strings.Cut(rest, " ")
	n, err := strconv.ParseInt(pages, 10, 64)
	return n * int64(os.Getpagesize()), err
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
