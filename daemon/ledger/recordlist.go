package ledger

import "github.com/cima-project/cima/hw"

// recordList are the records of all events, in blocks that stay where they are: a
// slice is copied when it grows, and a log of a million events would be in
// memory twice. A copy of places goes on showing what was there.
type recordList struct {
	blocks []*[blockRecords]record
	n      int
}

const blockRecords = 1024

func (p *recordList) add(r record) {
	if p.n%blockRecords == 0 {
		p.blocks = append(p.blocks, new([blockRecords]record))
	}
	p.blocks[p.n/blockRecords][p.n%blockRecords] = r
	p.n++
}

func (p recordList) at(i int) record { return p.blocks[i/blockRecords][i%blockRecords] }

// pick returns the records at some positions.
func (p recordList) pick(positions []int32) []record {
	out := make([]record, 0, len(positions))
	for _, at := range positions {
		out = append(out, p.at(int(at)))
	}
	return out
}

// digests returns those of a run of records, one behind the other.
func (p recordList) digests(from, to int) []byte {
	out := make([]byte, 0, (to-from)*len(hw.Digest{}))
	for i := from; i < to; i++ {
		d := p.at(i).digest
		out = append(out, d[:]...)
	}
	return out
}
