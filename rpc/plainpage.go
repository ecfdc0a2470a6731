package rpc

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"math"
	"strings"
)

// decodePlain reads a page of the event log that is written byte by byte as our daemon
// does, without a JSON reader and without a check before. It returns false for every
// other page, malformed ones too, and changes nothing; CCEventLog.decode reads those.
func decodePlain(raw []byte, l *CCEventLog) bool {
	most := min(len(raw)/leastRecord, MaxEventCount)
	r := plainPage{data: raw, buf: make([]byte, len(raw)/2), digests: make([]EventDigest, 0, most)}
	page := CCEventLog{Events: make([]EventRecord, 0, most)}
	r.literal(`{"events":[`)
	for first := true; !r.failed && !r.next("]"); first = false {
		if !first {
			r.literal(",")
		}
		page.Events = append(page.Events, EventRecord{})
		r.record(&page.Events[len(page.Events)-1])
	}
	page.Total = r.integer(`,"total":`)
	if r.next(`,"next":`) {
		page.Next = r.integer("")
	}
	r.literal("}")
	if r.failed || r.pos < len(raw) || max(page.Total, page.Next) > maxRecord {
		return false
	}
	*l = page
	return true
}

// maxRecord is the highest number that a record may have: a client asks for numbers of
// 31 bits.
const maxRecord = 1<<31 - 1

// leastRecord is about the length of the shortest record, with one digest.
const leastRecord = 256

var strictBase64 = base64.StdEncoding.Strict() // making it costs more than a short string

// A plainPage reads text that must be exactly as expected; failed is set where it is
// not. The fields that change with every byte are no pointers, which cost more during
// garbage collection, and pages make much garbage.
type plainPage struct {
	data    []byte
	pos     int
	failed  bool
	buf     []byte // what events and digests are read into
	used    int
	digests []EventDigest // of all records; each has its part
	texts   strings.Builder
}

// next reads text if it stands there.
func (r *plainPage) next(text string) bool {
	end := r.pos + len(text)
	if end > len(r.data) || string(r.data[r.pos:end]) != text {
		return false
	}
	r.pos = end
	return true
}

func (r *plainPage) literal(text string) {
	if !r.next(text) {
		r.failed = true
	}
}

// integer reads a whole number from 0 to 2^31 - 1 behind name, which any machine's int
// holds. A greater one is for the decoder of all JSON.
func (r *plainPage) integer(name string) int {
	v := r.number(name)
	if v > math.MaxInt32 {
		r.failed = true
		return 0
	}
	return int(v)
}

// number reads a whole number from 0 to 2^32 - 1 behind name.
func (r *plainPage) number(name string) int64 {
	r.literal(name)
	rest := r.data[r.pos:min(r.pos+len("4294967295")+1, len(r.data))]
	n, v := 0, int64(0)
	for ; n < len(rest) && '0' <= rest[n] && rest[n] <= '9'; n++ {
		v = 10*v + int64(rest[n]-'0')
	}
	if n == 0 || v > math.MaxUint32 || n > 1 && rest[0] == '0' {
		r.failed = true
		return 0
	}
	r.pos += n
	return v
}

// plain reads up to the quote that ends a string, which has no escape in it.
func (r *plainPage) plain() []byte {
	rest := r.data[r.pos:]
	end := bytes.IndexByte(rest, '"')
	if end < 0 || bytes.IndexByte(rest[:end], '\\') >= 0 {
		r.failed = true
		return nil
	}
	r.pos += end + 1
	return rest[:end]
}

func (r *plainPage) record(e *EventRecord) {
	e.RecNum = r.integer(`{"rec_num":`)
	e.IMRIndex = r.integer(`,"imr_index":`)
	e.EventType = uint32(r.number(`,"event_type":`))
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
	r.failed = r.failed || e.EventSize != len(e.Event) || e.IMRIndex > MaxIndex || e.RecNum > maxRecord
	if r.next(`,"extra_info":{"rtmr3_digest":"`) {
		e.ExtraInfo = map[string]string{"rtmr3_digest": r.text()}
		r.literal("}")
	}
	r.literal("}")
}

// text is plain where every byte is a character that needs no second look. All
// texts of a page are cut from one.
func (r *plainPage) text() string {
	text := r.plain()
	for _, c := range text {
		if c < 0x20 || c > 0x7e {
			r.failed = true
			break
		}
	}
	if r.texts.Cap() == 0 {
		r.texts.Grow(len(r.data) / 4)
	}
	from := r.texts.Len()
	r.texts.Write(text)
	return r.texts.String()[from:]
}

func (r *plainPage) hex(name string) HexBytes {
	r.literal(name)
	text := r.plain()
	return r.into(text, hex.DecodedLen(len(text)), lowerHex)
}

// into decodes text into what is left of room.
func (r *plainPage) into(text []byte, size int, decode func(to, text []byte) (int, error)) []byte {
	if size > len(r.buf)-r.used {
		r.buf, r.used = make([]byte, max(size, 4096)), 0
	}
	n, err := decode(r.buf[r.used:r.used+size], text)
	if err != nil {
		r.failed = true
		return nil
	}
	from := r.used
	r.used += n
	return r.buf[from:r.used:r.used]
}
