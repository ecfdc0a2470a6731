package rpc

import "github.com/cima-project/cima/logs/canonical"

// readApart reads a bundle that is written as AppendJSON does it: its log, which is nearly
// all of it, comes last. False: it has another form, or is none.
func readApart(data []byte, e *Evidence) bool {
	log := make([]LogEntry, 0, len(data)/256)
	ok := canonical.UnmarshalApart(data, e, "runtime_log", func(name string, value []byte) bool {
		switch {
		case name == "event" && len(value) > 0:
			log = append(log, LogEntry{Event: value})
		case name == "digests" && len(value) >= len(Digest{}):
			log = append(log, LogEntry{Digests: value})
		default:
			return false
		}
		return true
	})
	e.RuntimeLog = log
	return ok
}
