package ledger

import (
	"bytes"
	"testing"

	"github.com/cima-project/cima/hw"
)

func TestRecordList(t *testing.T) {
	var p recordList
	var early recordList
	const n = 3*blockRecords + 5
	for i := range n {
		if p.n != i {
			t.Fatalf("%d of %d", p.n, i)
		}
		p.add(record{digest: hw.Digest{byte(i), byte(i >> 8)}, offset: int64(i)})
		if i == blockRecords+1 {
			early = p
		}
	}
	for _, i := range []int{0, 1, blockRecords - 1, blockRecords, n - 1} {
		if p.at(i).offset != int64(i) {
			t.Errorf("at %d is %d", i, p.at(i).offset)
		}
	}
	if early.n != blockRecords+2 || early.at(blockRecords+1).offset != blockRecords+1 {
		t.Error("a copy lost what it had")
	}
	picked := p.pick([]int32{2, blockRecords, n - 1})
	if len(picked) != 3 || picked[1].offset != blockRecords || picked[2].offset != n-1 {
		t.Errorf("picked %v", picked)
	}
	want := bytes.Join([][]byte{{255, 3}, make([]byte, 46), {0, 4}, make([]byte, 46)}, nil)
	if got := p.digests(blockRecords-1, blockRecords+1); !bytes.Equal(got, want) {
		t.Errorf("digests %x", got)
	}
	if len(p.digests(5, 5)) != 0 {
		t.Error("digests of nothing")
	}
}
