package rpc

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"strings"
)

// decodeEventLog reads a page that the scanner has accepted. It takes what
// encoding/json would, members that this version doesn't know included, in a
// fraction of the time and memory: pages are large, and logs long.
func decodeEventLog(data []byte, page *CCEventLog) error {
	// Base64 and hex are longer than what they stand for, so that the bytes of
	// all events find room here.
	r := pageReader{s: scanner{data: data}, room: make([]byte, 0, len(data)/4*3), digests: make([]EventDigest, 0, 64)}
	*page = CCEventLog{Events: []EventRecord{}}
	r.object(pageMembers, func(name []byte) {
		switch string(name) {
		case "total":
			page.Total = r.integer(maxRecord)
		case "next":
			page.Next = r.integer(maxRecord)
		case "events":
			r.array(func() {
				page.Events = append(page.Events, EventRecord{})
				r.record(&page.Events[len(page.Events)-1])
			})
		default:
			r.unknown(name, pageMembers)
		}
	})
	return r.err
}

// A pageReader goes once over a page. The first thing that is wrong is kept.
type pageReader struct {
	s       scanner
	err     error
	room    []byte        // what events and digests are read into
	digests []EventDigest // of all records; each has its part
}

func (r *pageReader) record(e *EventRecord) {
	r.object(recordMembers, func(name []byte) {
		switch string(name) {
		case "rec_num":
			e.RecNum = r.integer(maxRecord)
		case "imr_index":
			e.IMRIndex = r.integer(MaxIndex)
		case "event_type":
			e.EventType = uint32(r.integer(1<<32 - 1))
		case "event_size":
			e.EventSize = r.integer(MaxEvidence)
		case "event":
			e.Event = r.bytes(strictBase64.Decode, base64.StdEncoding.DecodedLen)
		case "digests":
			from := len(r.digests)
			r.array(r.digest)
			e.Digests = r.digests[from:len(r.digests):len(r.digests)]
		case "extra_info":
			e.ExtraInfo = map[string]string{}
			r.object(shape{}, func(name []byte) { e.ExtraInfo[string(name)] = string(r.text()) })
		default:
			r.unknown(name, recordMembers)
		}
	})
	if e.EventSize != len(e.Event) {
		r.wrong("event_size isn't the event's size")
	}
}

func (r *pageReader) digest() {
	var d EventDigest
	r.object(digestMembers, func(name []byte) {
		switch string(name) {
		case "algo_id":
			d.AlgoID = r.integer(1<<16 - 1)
		case "hash":
			d.Hash = r.bytes(lowerHex, hex.DecodedLen)
		default:
			r.unknown(name, digestMembers)
		}
	})
	r.digests = append(r.digests, d)
}

// lowerHex is hex.Decode without capitals.
func lowerHex(to, text []byte) (int, error) {
	if len(text)%2 != 0 {
		return 0, hex.ErrLength
	}
	n := len(text) / 2
	to = to[:n]
	for i := range to {
		high, low := nibbles[text[2*i]], nibbles[text[2*i+1]]
		if high|low > 15 {
			return i, hex.InvalidByteError(text[2*i])
		}
		to[i] = high<<4 | low
	}
	return n, nil
}

// nibbles are what lower-case hex digits stand for, 255 for all others.
var nibbles = func() (n [256]byte) {
	for i := range n {
		n[i] = 255
	}
	for i, digit := range []byte("0123456789abcdef") {
		n[digit] = byte(i)
	}
	return n
}()

func (r *pageReader) wrong(reason string) {
	if r.err == nil {
		r.err = r.s.fail("%s", reason)
	}
}

// keep takes over an error of the scanner.
func (r *pageReader) keep(err error) {
	if r.err == nil {
		r.err = err
	}
}

// A shape is the members that an object is known to have: those that have to
// be there, and those that may.
type shape struct{ must, may []string }

var (
	pageMembers   = shape{[]string{"events", "total"}, []string{"next"}}
	recordMembers = shape{[]string{"rec_num", "imr_index", "event_type", "digests", "event_size", "event"}, []string{"extra_info"}}
	digestMembers = shape{must: []string{"algo_id", "hash"}}
)

// unknown passes over a member of a later version. What differs from a known
// name in case alone is none: encoding/json would take it for that one.
func (r *pageReader) unknown(name []byte, s shape) {
	for _, known := range [][]string{s.must, s.may} {
		for _, k := range known {
			if bytes.EqualFold(name, []byte(k)) {
				r.wrong("a case variant of " + k)
				return
			}
		}
	}
	r.keep(r.s.value(1, nil))
}

// object calls each with every member's name, to read its value.
func (r *pageReader) object(s shape, each func(name []byte)) {
	missing := len(s.must)
	r.list('{', '}', func() {
		name := r.text()
		r.s.space()
		if r.err != nil || r.s.peek() != ':' {
			r.wrong("a colon follows a member's name")
			return
		}
		r.s.pos++
		r.s.space()
		for _, m := range s.must {
			if m == string(name) {
				missing--
			}
		}
		each(name)
	})
	if missing > 0 {
		r.wrong("one of the members " + strings.Join(s.must, ", ") + " is missing")
	}
}

func (r *pageReader) array(each func()) { r.list('[', ']', each) }

func (r *pageReader) list(begin, end byte, each func()) {
	if r.err != nil || r.s.peek() != begin {
		r.wrong("not a " + string(begin))
		return
	}
	r.s.pos++
	r.s.space()
	for r.s.peek() != end {
		each()
		r.s.space()
		switch {
		case r.err != nil:
			return
		case r.s.peek() == ',':
			r.s.pos++
			r.s.space()
		case r.s.peek() != end:
			r.wrong("neither goes on nor ends")
			return
		}
	}
	r.s.pos++
}

// integer reads a whole number from 0 to most.
func (r *pageReader) integer(most int) int {
	from := r.s.pos
	for c := r.s.peek(); '0' <= c && c <= '9'; c = r.s.peek() {
		r.s.pos++
	}
	n, err := strconv.Atoi(string(r.s.data[from:r.s.pos]))
	if err != nil || n > most {
		r.wrong("not a whole number from 0 to " + strconv.Itoa(most))
	}
	return n
}

// text reads a string, its escapes resolved.
func (r *pageReader) text() []byte {
	if r.err != nil || r.s.peek() != '"' {
		r.wrong("not a string")
		return nil
	}
	raw, escaped, err := r.s.text()
	r.keep(err)
	if escaped && err == nil {
		raw = unescape(raw)
	}
	return raw
}

// bytes decodes a string into what is left of room.
func (r *pageReader) bytes(decode func(to, text []byte) (int, error), size func(int) int) []byte {
	text := r.text()
	from := len(r.room)
	if size(len(text)) > cap(r.room)-from { // strings with escapes in them alone
		r.room, from = make([]byte, 0, size(len(text))), 0
	}
	n, err := decode(r.room[from:from+size(len(text))], text)
	if err != nil {
		r.wrong("not in standard base64, or lower-case hex")
		return nil
	}
	r.room = r.room[:from+n]
	return r.room[from : from+n : from+n]
}
