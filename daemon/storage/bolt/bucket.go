package bolt

import (
	"bytes"
	"slices"
	"sort"
)

// Bucket maps names to values and to buckets. A nil Bucket holds nothing.
type Bucket struct {
	t      *transaction
	root   uint64 // page of its own; 0: it stands in its parent's
	inline []byte // then this is its page
}

const (
	isBranch = 0x01 // of a page
	isLeaf   = 0x02
	isBucket = 0x01 // of an element
)

// Bucket returns the bucket of this name, nil if there is none.
func (b *Bucket) Bucket(name string) *Bucket {
	value, ok := b.find(name, isBucket)
	switch {
	case !ok:
		return nil
	case len(value) < bucketHeader:
		b.t.fail("a bucket has %d bytes", len(value))
		return nil
	}
	return &Bucket{t: b.t, root: u64(value), inline: value[bucketHeader:]}
}

// Get returns the value of this name, "" if there is none.
func (b *Bucket) Get(name string) string {
	value, _ := b.find(name, 0)
	return string(value)
}

// find goes down from the bucket's page to the element with this name.
func (b *Bucket) find(name string, flags uint32) ([]byte, bool) {
	if b == nil {
		return nil, false
	}
	page := b.inline
	if b.root != 0 {
		page = b.t.page(b.root)
	}
	for range maxDepth {
		if len(page) < pageHeader {
			b.t.fail("a page has %d bytes", len(page))
			return nil, false
		}
		switch u16(page[8:]) {
		case isLeaf:
			return b.t.inLeaf(page, name, flags)
		case isBranch:
			page = b.t.below(page, name)
		default:
			b.t.fail("a page has the flags %#x", u16(page[8:]))
			return nil, false
		}
	}
	b.t.fail("deeper than %d pages", maxDepth)
	return nil, false
}

// count is how many elements a page has, if they have place there.
func (t *transaction) count(page []byte) int {
	n := int(u16(page[10:]))
	if t.err != nil || pageHeader+n*elementSize > len(page) {
		t.fail("%d elements in a page of %d bytes", n, len(page))
		return 0
	}
	return n
}

// part is what lies behind an element: its key, or its value.
func (t *transaction) part(page []byte, element int, from, size uint32) []byte {
	at := pageHeader + element*elementSize
	rest := uint64(len(page) - at)
	if uint64(from)+uint64(size) > rest {
		t.fail("an element of %d bytes at %d ends behind its page", size, from)
		return nil
	}
	return page[at+int(from):][:size]
}

// below returns the page that may hold the name: of the last element that isn't greater.
func (t *transaction) below(page []byte, name string) []byte {
	n := t.count(page)
	i := sort.Search(n, func(i int) bool {
		e := page[pageHeader+i*elementSize:]
		return bytes.Compare(t.part(page, i, u32(e), u32(e[4:])), []byte(name)) > 0
	})
	if n == 0 {
		t.fail("a branch without elements")
		return nil
	}
	return t.page(u64(page[pageHeader+max(i-1, 0)*elementSize+8:]))
}

// inLeaf returns the value of a name, where its element has these flags.
func (t *transaction) inLeaf(page []byte, name string, flags uint32) ([]byte, bool) {
	n := t.count(page)
	key := func(i int) []byte {
		e := page[pageHeader+i*elementSize:]
		return t.part(page, i, u32(e[4:]), u32(e[8:]))
	}
	i, found := sort.Find(n, func(i int) int { return bytes.Compare([]byte(name), key(i)) })
	if !found || t.err != nil {
		return nil, false
	}
	e := page[pageHeader+i*elementSize:]
	if u32(e) != flags || uint64(u32(e[4:]))+uint64(u32(e[8:])) > uint64(len(page)) {
		return nil, false
	}
	return slices.Clip(t.part(page, i, u32(e[4:])+u32(e[8:]), u32(e[12:]))), t.err == nil
}
