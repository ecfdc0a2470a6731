package rpc

import (
	"bytes"
	"encoding/base64"
	"slices"

	"github.com/cima-project/cima/logs/canonical"
)

// The log is nearly all of a bundle. So a bundle that is written as AppendJSON does it,
// with the log behind all else and no white space in it, is read apart: the rest by
// package canonical, with an empty log in this one's place, and then each record by its
// bytes. What differs from that in anything is read by package canonical alone, which
// knows why.

const (
	logBegins = `"runtime_log":[`
	logEnds   = `]}`
)

// readApart reads a bundle of that form; false: it has another, or is none.
func readApart(data []byte, e *Evidence) bool {
	// A quote in a string is escaped, so this is a name. It is one of the bundle itself
	// if what stands before it needs one bracket to be whole.
	at := bytes.Index(data, []byte(logBegins))
	if at < 0 || !bytes.HasSuffix(data, []byte(logEnds)) || len(data)-len(logEnds) < at+len(logBegins) {
		return false
	}
	rest := slices.Concat(data[:at], []byte(logBegins+logEnds))
	if canonical.UnmarshalSpelled(rest, e) != nil {
		return false
	}
	log, ok := readRecords(data[at+len(logBegins) : len(data)-len(logEnds)])
	e.RuntimeLog = log
	return ok
}

// readRecords reads the records of a log, which have no white space and no escapes.
func readRecords(text []byte) (log []LogEntry, ok bool) {
	if len(text) == 0 {
		return []LogEntry{}, true
	}
	if bytes.IndexByte(text, '\n') >= 0 || bytes.IndexByte(text, '\r') >= 0 {
		return nil, false
	}
	const event, digests, ends = `{"event":"`, `{"digests":"`, `"}`
	log = make([]LogEntry, 0, bytes.Count(text, []byte(ends)))
	room := make([]byte, 0, base64.StdEncoding.DecodedLen(len(text))) // for all of them
	for {
		rest, isEvent := bytes.CutPrefix(text, []byte(event))
		if !isEvent {
			if rest, ok = bytes.CutPrefix(text, []byte(digests)); !ok {
				return nil, false
			}
		}
		n := bytes.IndexByte(rest, '"')
		if n < 0 || !bytes.HasPrefix(rest[n:], []byte(ends)) {
			return nil, false
		}
		value, err := strictBase64.AppendDecode(room, rest[:n])
		if err != nil || len(value) == 0 || !isEvent && len(value) < len(Digest{}) {
			return nil, false
		}
		room, value = value[len(value):], value[:len(value):len(value)]
		if isEvent {
			log = append(log, LogEntry{Event: value})
		} else {
			log = append(log, LogEntry{Digests: value})
		}
		if text = rest[n+len(ends):]; len(text) == 0 {
			return log, true
		}
		if text, ok = bytes.CutPrefix(text, []byte(",")); !ok {
			return nil, false
		}
	}
}
