package daemon

import (
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/rpc"
)

// metrics are the daemon's counters and histograms in Prometheus' text form
// (cima-api(7), METRICS).
func (d *Daemon) metrics(s rpc.Status) string {
	x := new(exposition)
	x.family("build_info", gaugeKind, "The version that runs.")
	x.sample(1, "version", s.Version)
	x.one("ready", gaugeKind, "1 while evidence can be had.", truth(s.Ready))
	d.callMetrics(x, s)
	d.hardwareMetrics(x)
	d.gateMetrics(x)
	log := d.ledger.Status()
	x.one("log_events_total", counterKind, "Events in the runtime log of this boot.", float64(log.Events))
	x.one("log_bytes", gaugeKind, "Bytes of the runtime log.", float64(log.Bytes))
	x.one("log_limit_bytes", gaugeKind, "Bytes that the runtime log may have.", float64(d.config().Limits.LogBytes))
	x.one("log_containers", gaugeKind, "Containers that the runtime log names.", float64(log.Containers))
	x.one("log_consistent", gaugeKind, "0 once log and RTMR3 disagree.", truth(s.Log.Consistent))
	x.one("containers", gaugeKind, "Containers that run or are connected.", float64(s.Container))
	d.processMetrics(x)
	return x.String()
}

func (d *Daemon) callMetrics(x *exposition, s rpc.Status) {
	x.family("request_duration_seconds", histogramKind, "Requests by method, and how long their answers took.")
	for _, name := range slices.Sorted(maps.Keys(d.counters.byMethod)) {
		x.histogram(d.counters.byMethod[name], "method", name)
	}
	x.family("errors_total", counterKind, "Requests refused, by code (cima-api(7), ERRORS).")
	for _, code := range slices.Sorted(maps.Keys(s.Errors)) {
		x.sample(float64(s.Errors[code]), "code", code)
	}
	x.one("connections", gaugeKind, "Connections open on the callers' socket.", float64(s.Server.Connections))
	x.one("callers", gaugeKind, "Callers with a connection.", float64(s.Server.Callers))
	x.one("connections_accepted_total", counterKind, "Connections taken.", float64(s.Server.Accepted))
	x.one("connections_refused_total", counterKind, "Connections turned away at a limit.", float64(s.Server.Refused))
	x.one("connections_dropped_total", counterKind, "Connections closed for breaking a limit of the protocol.", float64(s.Server.Dropped))
	x.one("held_bytes", gaugeKind, "Long lines and replies held for callers.", float64(s.Server.Memory))
}

func (d *Daemon) hardwareMetrics(x *exposition) {
	c := d.counters
	x.family("extends_total", counterKind, "Extends of RTMR3, by what the hardware said.")
	x.sample(float64(c.extends.Load()), "result", "ok")
	x.sample(float64(c.extendsFailed.Load()), "result", "error")
	x.family("extend_duration_seconds", histogramKind, "How long extends took.")
	x.histogram(&c.extending)
	x.family("quotes_total", counterKind, "Quotes asked of the hardware, by what it said.")
	x.sample(float64(c.quotes.Load()), "result", "ok")
	x.sample(float64(c.quotesFailed.Load()), "result", "error")
	x.family("quote_duration_seconds", histogramKind, "How long quotes took, without waiting for a turn.")
	x.histogram(&c.quoting)
	x.family("quotes_given_total", counterKind, "Quotes that callers were given, by whether they share them.")
	x.sample(float64(c.given.Load()), "shared", "false")
	x.sample(float64(c.givenShared.Load()), "shared", "true")
	x.one("quotes_waiting", gaugeKind, "Quotes that wait for their turn.", float64(d.quotes.Waiting()))
}

func (d *Daemon) gateMetrics(x *exposition) {
	c := d.counters
	x.family("gate_hold_duration_seconds", histogramKind, "Processes held at the gate, and for how long until it was decided.")
	x.histogram(&c.runtimesHeld, "of", "runtime")
	x.histogram(&c.execsHeld, "of", "exec")
	x.family("missed_total", counterKind, "What could not be measured in time.")
	x.sample(float64(c.launchesMissed.Load()), "what", "launch")
	x.sample(float64(c.execsMissed.Load()), "what", "exec")
	x.one("launches_repeated_total", counterKind, "Starts in a crash loop, measured at the gate and not logged at once.", float64(c.launchesRepeated.Load()))
}

// processMetrics are what Prometheus' own libraries tell of a process. What
// can't be read isn't told.
func (d *Daemon) processMetrics(x *exposition) {
	x.one("process_start_time_seconds", gaugeKind, "When the daemon started, in seconds since 1970.", float64(d.started.UnixMilli())/1000)
	var used unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &used) == nil {
		cpu := time.Duration(used.Utime.Nano() + used.Stime.Nano())
		x.one("process_cpu_seconds_total", counterKind, "CPU time used.", cpu.Seconds())
	}
	if n, err := residentBytes(); err == nil {
		x.one("process_resident_memory_bytes", gaugeKind, "Resident memory.", float64(n))
	}
	if open, err := os.ReadDir("/proc/self/fd"); err == nil {
		x.one("process_open_fds", gaugeKind, "Open descriptors.", float64(len(open)-1)) // this one's own
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		x.one("process_max_fds", gaugeKind, "Descriptors that may be open.", float64(limit.Cur))
	}
	x.one("goroutines", gaugeKind, "Goroutines.", float64(runtime.NumGoroutine()))
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
