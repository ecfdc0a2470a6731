package server

import "time"

// Limits bound what callers can make the server hold, do, or wait for. A field
// that is zero takes its default. cimad.toml(5) gives the reasons at length.
type Limits struct {
	// Line is the longest request in bytes, newline not counted. Default
	// 64 KiB: ten times the largest request that makes sense (a nonce and
	// 4 KiB of user data).
	Line int

	// Reply is the longest result in bytes. Default 1 MiB: a boot log with
	// IMA entries and some thousand events. A longer one becomes
	// CodeTooLarge.
	Reply int

	// InFlight is how many requests of one connection may be unanswered; no
	// more are read until one is answered. Default 256: calls that wait for a
	// quote wait together. All but the first 16 of a connection count against
	// their caller, who may have CallerInFlight of them, and four times that
	// all callers. Default 1024, at about 16 KiB each.
	InFlight       int
	CallerInFlight int

	// Connections is how many connections there may be in all. Default
	// 1024, at about 20 KiB each.
	Connections int

	// CallerConnections is how many connections one caller may have.
	// Default 64: sixteen hostile callers before others are kept out.
	CallerConnections int

	// CallerCalls is how many handlers run at once for one caller; further
	// requests wait. Default 4: a handler may hold several megabytes while
	// it builds its reply. Handlers that wait (Aside) don't count.
	CallerCalls int

	// Memory is how many bytes of long lines (half read, or of requests
	// that wait) and long replies (half written) are held in all,
	// CallerMemory for one caller. Up to 4 KiB are not counted. Defaults
	// 16 MiB and 4 MiB. Besides Memory, each of 16 callers is guaranteed one
	// reply of full length and the lines that ask for it, as long as it holds
	// no more than that. A caller that has read all of its replies is refused
	// none for lack of memory.
	Memory       int64
	CallerMemory int64

	// Attaching is how many new connections are identified at once; more wait, and
	// the origins take turns. Default 32.
	Attaching int

	// Connects is how many connections a second are taken of one origin, and
	// ConnectBurst how many at once. Defaults 500 and 1000.
	Connects     float64
	ConnectBurst int

	// LineTime is how long a line may take from its first byte to its
	// newline, Write how long a reply may take to be read (up to twice
	// that, because the deadline is not set anew for each), Idle how long a
	// connection with no request may stay. Defaults 10 s, 10 s, 60 s.
	LineTime time.Duration
	Write    time.Duration
	Idle     time.Duration

	// Drain is how long requests that were read may go on once the server
	// stops. Default 5 s.
	Drain time.Duration
}

// defaultLimits returns the default of each limit.
func defaultLimits() Limits {
	return Limits{
		Line:              64 << 10,
		Reply:             1 << 20,
		InFlight:          256,
		CallerInFlight:    1024,
		Connections:       1024,
		CallerConnections: 64,
		CallerCalls:       4,
		Memory:            16 << 20,
		CallerMemory:      4 << 20,
		Attaching:         32,
		Connects:          500,
		ConnectBurst:      1000,
		LineTime:          10 * time.Second,
		Write:             10 * time.Second,
		Idle:              60 * time.Second,
		Drain:             5 * time.Second,
	}
}

// withDefaults fills in what is zero.
func (l Limits) withDefaults() Limits {
	d := defaultLimits()
	fill(&l.Line, d.Line)
	fill(&l.Reply, d.Reply)
	fill(&l.InFlight, d.InFlight)
	fill(&l.CallerInFlight, d.CallerInFlight)
	fill(&l.Connections, d.Connections)
	fill(&l.CallerConnections, d.CallerConnections)
	fill(&l.CallerCalls, d.CallerCalls)
	fill(&l.Memory, d.Memory)
	fill(&l.CallerMemory, d.CallerMemory)
	fill(&l.Attaching, d.Attaching)
	fill(&l.Connects, d.Connects)
	fill(&l.ConnectBurst, d.ConnectBurst)
	fill(&l.LineTime, d.LineTime)
	fill(&l.Write, d.Write)
	fill(&l.Idle, d.Idle)
	fill(&l.Drain, d.Drain)
	// A line and a reply of full length must always fit.
	l.CallerMemory = max(l.CallerMemory, int64(l.Line+2*l.Reply))
	l.Memory = max(l.Memory, l.CallerMemory)
	return l
}

// sentAhead is how many requests of a connection may be unanswered whatever others do.
const sentAhead = 16

// guaranteed is how many bytes a caller may hold when Memory is used up: a line, the
// request that it was, the reply, and the envelope of that.
func (l *Limits) guaranteed() int64 { return int64(2*l.Line+l.Reply) + uncharged }

// total is how many bytes may be held in all.
func (l *Limits) total() int64 { return l.Memory + guaranteedCallers*l.guaranteed() }

func fill[T comparable](v *T, standard T) {
	var zero T
	if *v == zero {
		*v = standard
	}
}
