package api

import (
	"bytes"
	"container/list"
	"slices"
	"sort"
	"strconv"
	"sync"

	"github.com/cima-project/cima/rpc"
)

// encodedRecords are records of the event log as JSON, encoded once.
type encodedRecords struct {
	text []byte // with a comma between two
	ends []int  // of each record in text
}

func (r *encodedRecords) add(record rpc.EventRecord) {
	if len(r.ends) > 0 {
		r.text = append(r.text, ',')
	}
	r.text, _ = record.AppendJSON(r.text) // it has no error to give
	r.ends = append(r.ends, len(r.text))
}

func (r *encodedRecords) count() int { return len(r.ends) }

// cut returns the text of at most n records, from the record at index from on, that
// fit into free bytes; and the number of these records.
func (r *encodedRecords) cut(from, n, free int) ([]byte, int) {
	begin := 0
	if from > 0 {
		begin = r.ends[from-1] + 1
	}
	n = min(n, len(r.ends)-from)
	n = sort.Search(n, func(i int) bool { return r.ends[from+i]-begin > free })
	if n == 0 {
		return nil, 0
	}
	return r.text[begin:r.ends[from+n-1]], n
}

// eventPage is an rpc.CCEventLog whose records are encoded already.
type eventPage struct {
	parts       [][]byte
	total, next int
}

// AppendJSON writes the JSON of the rpc.CCEventLog.
func (p eventPage) AppendJSON(b []byte) ([]byte, error) {
	size := pageSlack
	for _, part := range p.parts {
		size += len(part) + 1
	}
	b = append(slices.Grow(b, size), `{"events":[`...)
	for i, part := range p.parts {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, part...)
	}
	b = strconv.AppendInt(append(b, `],"total":`...), int64(p.total), 10)
	if p.next > 0 {
		b = strconv.AppendInt(append(b, `,"next":`...), int64(p.next), 10)
	}
	return append(b, '}'), nil
}

// chunkRecords is how many records of an instance are encoded together.
const chunkRecords = 64

// maxPages bounds the bytes of encoded records that are cached: about 10,000 events.
// A container that reads its log page by page reads it from memory the second time.
const maxPages = 8 << 20

type chunkKey struct {
	owner, instance string
	chunk           int
}

// encodedPages caches the chunks that were used last. An instance only ever gets more
// records, so a full chunk stays right; a chunk that was not full is encoded again when
// it has grown.
type encodedPages struct {
	mu    sync.Mutex
	size  int
	byKey map[chunkKey]*list.Element
	used  list.List // of *cachedChunk, the one used last in front
}

type cachedChunk struct {
	key     chunkKey
	records *encodedRecords
}

// get returns a chunk with at least wanted records, and encodes it where there is
// none.
func (p *encodedPages) get(key chunkKey, wanted int, encode func() (*encodedRecords, error)) (*encodedRecords, error) {
	p.mu.Lock()
	if e := p.byKey[key]; e != nil {
		if cached := e.Value.(*cachedChunk); cached.records.count() >= wanted {
			p.used.MoveToFront(e)
			p.mu.Unlock()
			return cached.records, nil
		}
	}
	p.mu.Unlock()
	records, err := encode() // without the lock, because it reads the log
	if err != nil {
		return nil, err
	}
	p.store(key, records)
	return records, nil
}

func (p *encodedPages) store(key chunkKey, records *encodedRecords) {
	records.text = bytes.Clone(records.text) // without the room that it grew by
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byKey == nil {
		p.byKey = make(map[chunkKey]*list.Element)
	}
	if old := p.byKey[key]; old != nil {
		p.drop(old)
	}
	p.byKey[key] = p.used.PushFront(&cachedChunk{key, records})
	p.size += cap(records.text)
	for p.size > maxPages {
		p.drop(p.used.Back())
	}
}

func (p *encodedPages) drop(e *list.Element) {
	cached := p.used.Remove(e).(*cachedChunk)
	delete(p.byKey, cached.key)
	p.size -= cap(cached.records.text)
}
