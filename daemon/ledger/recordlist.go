package ledger

import "github.com/cima-project/cima/hw"

// recordList holds the records of all events in blocks that never move: a slice is
// copied when it grows, and memory would hold a log of a million events twice. A
// copy of a recordList keeps its records while the original grows.
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

// digests returns the digests of a run of records, 48 bytes each.
func (p recordList) digests(from, to int) []byte {
	out := make([]byte, 0, (to-from)*len(hw.Digest{}))
	for i := from; i < to; i++ {
		d := p.at(i).digest
		out = append(out, d[:]...)
	}
	return out
}
