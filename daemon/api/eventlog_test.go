package api

import (
	"encoding/json"
	"testing"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/rpc"
)

// replayView recomputes registers from event log records, as CIMA 0.5's users
// do.
func replayView(t *testing.T, records []rpc.EventRecord) (imr [4]hw.Digest) {
	t.Helper()
	for i, r := range records {
		if r.RecNum != i || r.EventSize != len(r.Event) || len(r.Digests) != 1 || len(r.Digests[0].Hash) != 48 {
			t.Fatalf("record %d: %+v", i, r)
		}
		if r.EventType == boot.EvNoAction {
			continue
		}
		imr[r.IMRIndex] = imr[r.IMRIndex].Extend(hw.Digest(r.Digests[0].Hash))
	}
	return imr
}

func TestEventLogReplaysInAnyPages(t *testing.T) {
	f := newFixture(t)
	now, err := f.machine.Registers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, count := range []int{0, 1, 7, 1024} {
		var all []rpc.EventRecord
		for start := 0; ; {
			page, err := f.client().GetCCEventLog(t.Context(), rpc.CCEventLogParams{Start: start, Count: count})
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, page.Events...)
			if page.Next == 0 {
				if len(all) != page.Total {
					t.Fatalf("count %d: %d records of %d", count, len(all), page.Total)
				}
				break
			}
			start = page.Next
		}
		imr := replayView(t, all)
		for i := range 3 {
			if imr[i] != now.RTMR[i] {
				t.Errorf("count %d: index %d doesn't replay to RTMR%d", count, i, i)
			}
		}
	}
	_, err = f.client().GetCCEventLog(t.Context(), rpc.CCEventLogParams{Start: 1 << 20})
	wantCode(t, err, rpc.CodeInvalidParams)
}

// A page ends where a reply would grow too large, whatever count says.
func TestEventLogPagesFitAReply(t *testing.T) {
	f := newFixture(t, func(c *config.Config) { c.Limits.Reply = 8 << 10 })
	page, err := f.client().GetCCEventLog(t.Context(), rpc.CCEventLogParams{Count: 1024})
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(page)
	if err != nil {
		t.Fatal(err)
	}
	if page.Next == 0 || len(b) > 8<<10 {
		t.Errorf("a page of %d bytes, next %d", len(b), page.Next)
	}
}
