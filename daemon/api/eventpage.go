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

// chunk holds records of the event log that follow each other, as JSON that is encoded
// once.
type chunk struct {
	text []byte // with a comma between two
	ends []int  // of each record in text
}

func (c *chunk) add(record rpc.EventRecord) {
	if len(c.ends) > 0 {
		c.text = append(c.text, ',')
	}
	c.text, _ = record.AppendJSON(c.text) // it has no error to give
	c.ends = append(c.ends, len(c.text))
}

func (c *chunk) count() int { return len(c.ends) }

// cut returns the text of at most n records, from the record at index from on, that
// fit into free bytes; and the number of these records.
func (c *chunk) cut(from, n, free int) ([]byte, int) {
	begin := 0
	if from > 0 {
		begin = c.ends[from-1] + 1
	}
	n = min(n, len(c.ends)-from)
	n = sort.Search(n, func(i int) bool { return c.ends[from+i]-begin > free })
	if n == 0 {
		return nil, 0
	}
	return c.text[begin:c.ends[from+n-1]], n
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

// chunkRecords is the number of records in a full chunk of an instance.
const chunkRecords = 64

// maxCachedBytes bounds the text of all cached chunks, in bytes: about 20,000 events with
// contents of 200 bytes. A container that reads its log page by page reads it from memory
// the second time. A log above the bound would be encoded anew by each reading, because the
// chunk that is needed next is the one used longest ago.
const maxCachedBytes = 16 << 20

type chunkKey struct {
	owner, instance string
	number          int // from 0
}

// chunkCache caches the chunks that were used last. An instance only ever gets more
// records, so a full chunk stays right; a chunk that was not full is encoded again when
// it has grown.
type chunkCache struct {
	mu    sync.Mutex
	size  int // of the chunks' texts in memory, in bytes
	byKey map[chunkKey]*list.Element
	used  list.List // of *cachedChunk, the one used last in front
}

type cachedChunk struct {
	key   chunkKey
	chunk *chunk
}

// get returns a chunk with at least wanted records. It encodes the chunk if the cache
// has none.
func (x *chunkCache) get(key chunkKey, wanted int, encode func() (*chunk, error)) (*chunk, error) {
	x.mu.Lock()
	if entry := x.byKey[key]; entry != nil {
		if cached := entry.Value.(*cachedChunk); cached.chunk.count() >= wanted {
			x.used.MoveToFront(entry)
			x.mu.Unlock()
			return cached.chunk, nil
		}
	}
	x.mu.Unlock()
	c, err := encode() // without the lock, because it reads the log
	if err != nil {
		return nil, err
	}
	x.store(key, c)
	return c, nil
}

func (x *chunkCache) store(key chunkKey, c *chunk) {
	c.text = bytes.Clone(c.text) // without the capacity that it grew by
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.byKey == nil {
		x.byKey = make(map[chunkKey]*list.Element)
	}
	if old := x.byKey[key]; old != nil {
		x.evict(old)
	}
	x.byKey[key] = x.used.PushFront(&cachedChunk{key, c})
	x.size += cap(c.text)
	for x.size > maxCachedBytes {
		x.evict(x.used.Back())
	}
}

// evict removes an entry from the cache.
func (x *chunkCache) evict(entry *list.Element) {
	cached := x.used.Remove(entry).(*cachedChunk)
	delete(x.byKey, cached.key)
	x.size -= cap(cached.chunk.text)
}
