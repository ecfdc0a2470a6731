package config

import (
	"math"

	"github.com/cima-project/cima/hw/verify/tables"
)

// Limits bounds everything that a caller controls (SECURITY.md, What holds it, 5).
type Limits struct {
	Line                    int      `toml:"line"`                      // bytes of a request
	Reply                   int      `toml:"reply"`                     // bytes of a reply
	EvidenceReply           int      `toml:"evidence_reply"`            // bytes of GetEvidence's reply
	Connections             int      `toml:"connections"`               // in all
	ConnectionsPerContainer int      `toml:"connections_per_container"` // or per uid
	InFlight                int      `toml:"in_flight"`                 // requests on a connection
	Idle                    Duration `toml:"idle"`                      // with no whole request
	Write                   Duration `toml:"write"`                     // for a reply to be taken
	RequestsPerSecond       float64  `toml:"requests_per_second"`       // per container
	RequestsBurst           int      `toml:"requests_burst"`
	QuotesPerMinute         float64  `toml:"quotes_per_minute"` // per container
	QuotesBurst             int      `toml:"quotes_burst"`
	QuoteTimeout            Duration `toml:"quote_timeout"`
	RegisterTimeout         Duration `toml:"register_timeout"`     // for a register to be read or extended
	LogBytes                int64    `toml:"log_bytes"`            // of the runtime log
	EventsPerContainer      int      `toml:"events_per_container"` // that one container may cause
}

func (l *Limits) check(say sayer) {
	for _, limit := range []struct {
		key             string
		is, least, most int64
	}{
		{"line", int64(l.Line), 1 << 10, 16 << 20},
		{"reply", int64(l.Reply), 4 << 10, 64 << 20},
		{"evidence_reply", int64(l.EvidenceReply), 64 << 10, 256 << 20},
		{"connections", int64(l.Connections), 1, 1 << 16},
		{"connections_per_container", int64(l.ConnectionsPerContainer), 1, 1 << 16},
		{"in_flight", int64(l.InFlight), 1, 1 << 10},
		{"requests_burst", int64(l.RequestsBurst), 1, 1 << 30},
		{"quotes_burst", int64(l.QuotesBurst), 1, 1 << 20},
		{"log_bytes", l.LogBytes, 64 << 10, 1 << 40},
		{"events_per_container", int64(l.EventsPerContainer), 1, 1 << 30},
	} {
		if limit.is < limit.least || limit.is > limit.most {
			say(tables.Path("limits", limit.key), "limits.%s = %d: must be %d to %d", limit.key, limit.is, limit.least, limit.most)
		}
	}
	for _, rate := range []struct {
		key string
		is  float64
	}{{"requests_per_second", l.RequestsPerSecond}, {"quotes_per_minute", l.QuotesPerMinute}} {
		if !(rate.is > 0) || math.IsInf(rate.is, 0) { // NaN is above nothing
			say(tables.Path("limits", rate.key), "limits.%s = %v: must be a finite number above zero", rate.key, rate.is)
		}
	}
}
