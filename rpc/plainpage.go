package rpc

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"strconv"
)

// decodePlain reads a page of the event log byte by byte as our daemon writes
// it, so that nothing has to be known of JSON, and nobody needs to have looked at
// it before. Whatever is written otherwise is for decodeEventLog, errors too: it
// is false then.
func decodePlain(raw []byte, l *CCEventLog) bool {
	r := plainPage{rest: raw, room: make([]byte, 0, len(raw)/2), digests: make([]EventDigest, 0, 64)}
	page := CCEventLog{Events: make([]EventRecord, 0, len(raw)/512)}
	r.literal(`{"events":[`)
	for first := true; !r.failed && !r.next("]"); first = false {
		if !first {
			r.literal(",")
		}
		page.Events = append(page.Events, r.record())
	}
	page.Total = r.integer(`,"total":`)
	if r.next(`,"next":`) {
		page.Next = r.integer("")
	}
	r.literal("}")
	if r.failed || len(r.rest) > 0 || max(page.Total, page.Next) > 1<<31-1 {
		return false
	}
	*l = page
	return true
}

// A plainPage reads what stands exactly there; failed says that something
// else did.
type plainPage struct {
	rest    []byte
	failed  bool
	room    []byte        // what events and digests are read into
	digests []EventDigest // of all records; each has its part
}

// next reads text if it stands there.
func (r *plainPage) next(text string) bool {
	if len(r.rest) < len(text) || string(r.rest[:len(text)]) != text {
		return false
	}
	r.rest = r.rest[len(text):]
	return true
}

func (r *plainPage) literal(text string) {
	if !r.next(text) {
		r.failed = true
	}
}

// integer reads a whole number from 0 to 2^32 - 1 behind name.
func (r *plainPage) integer(name string) int {
	r.literal(name)
	n := 0
	for n < len(r.rest) && '0' <= r.rest[n] && r.rest[n] <= '9' {
		n++
	}
	v, err := strconv.ParseUint(string(r.rest[:n]), 10, 32)
	if err != nil || n > 1 && r.rest[0] == '0' {
		r.failed = true
		return 0
	}
	r.rest = r.rest[n:]
	return int(v)
}

// plain reads up to the quote that ends a string, which has no escape in it.
func (r *plainPage) plain() []byte {
	end := bytes.IndexByte(r.rest, '"')
	if end < 0 || bytes.IndexByte(r.rest[:end], '\\') >= 0 {
		r.failed = true
		return nil
	}
	text := r.rest[:end]
	r.rest = r.rest[end+1:]
	return text
}

func (r *plainPage) record() (e EventRecord) {
	e.RecNum = r.integer(`{"rec_num":`)
	e.IMRIndex = r.integer(`,"imr_index":`)
	e.EventType = uint32(r.integer(`,"event_type":`))
	from := len(r.digests)
	r.literal(`,"digests":[`)
	for first := true; !r.failed && !r.next("]"); first = false {
		if !first {
			r.literal(",")
		}
		d := EventDigest{AlgoID: r.integer(`{"algo_id":`), Hash: r.hex(`,"hash":"`)}
		r.failed = r.failed || d.AlgoID > 1<<16-1
		r.digests = append(r.digests, d)
		r.literal("}")
	}
	e.Digests = r.digests[from:len(r.digests):len(r.digests)]
	e.EventSize = r.integer(`,"event_size":`)
	r.literal(`,"event":"`)
	text := r.plain()
	r.failed = r.failed || bytes.IndexByte(text, '\r') >= 0 || bytes.IndexByte(text, '\n') >= 0 // the decoder would pass over them
	e.Event = r.into(text, base64.StdEncoding.DecodedLen(len(text)), strictBase64.Decode)
	r.failed = r.failed || e.EventSize != len(e.Event) || e.IMRIndex > MaxIndex
	if r.next(`,"extra_info":{"rtmr3_digest":"`) {
		e.ExtraInfo = map[string]string{"rtmr3_digest": r.text()}
		r.literal("}")
	}
	r.literal("}")
	return e
}

// text is plain where every byte is a character that needs no second look.
func (r *plainPage) text() string {
	text := r.plain()
	for _, c := range text {
		if c < 0x20 || c > 0x7e {
			r.failed = true
			break
		}
	}
	return string(text)
}

func (r *plainPage) hex(name string) HexBytes {
	r.literal(name)
	text := r.plain()
	return r.into(text, hex.DecodedLen(len(text)), lowerHex)
}

// into decodes text into what is left of room.
func (r *plainPage) into(text []byte, size int, decode func(to, text []byte) (int, error)) []byte {
	if size > cap(r.room)-len(r.room) {
		r.room = make([]byte, 0, max(size, 4096))
	}
	from := len(r.room)
	n, err := decode(r.room[from:from+size], text)
	if err != nil {
		r.failed = true
		return nil
	}
	r.room = r.room[:from+n]
	return r.room[from:len(r.room):len(r.room)]
}
