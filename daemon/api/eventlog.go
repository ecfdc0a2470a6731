package api

import (
	"context"
	"encoding/hex"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/ledger"
	"github.com/cima-project/cima/daemon/oslog"
	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/rpc"
)

// GetCCEventLog shows the event log as CIMA 0.5 did: the boot events, which are the
// same for all callers, then the caller's own events, and IMA entries where the kernel
// extends RTMR2 for them. This log replays to RTMR0–2 and to the container register.
// The log that replays to RTMR3 is in GetEvidence.

// pageSlack is the number of bytes of a reply besides its records.
const pageSlack = 1 << 10

// encodeBoot encodes the records of the boot events.
func encodeBoot(form string, bootLog []byte) (chunk, error) {
	if form != hw.BootLogCCEL {
		return chunk{}, nil // it explains no RTMR
	}
	parsed, err := boot.Parse(bootLog)
	if err != nil {
		return chunk{}, err
	}
	var c chunk
	for v := range parsed.UnverifiedView() {
		if v.IMR > 2 {
			continue // RTMR3 is the runtime log's
		}
		c.add(rpc.EventRecord{
			RecNum: c.count(), IMRIndex: v.IMR, EventType: v.Type,
			Digests:   []rpc.EventDigest{{AlgoID: int(v.Alg), Hash: v.Digest}},
			EventSize: len(v.Event), Event: v.Event,
		})
	}
	return c, nil
}

// ownRecord is the record of an event in the container register.
func ownRecord(e logs.Event, number int) rpc.EventRecord {
	measured, _ := e.MeasuredDigest()
	whole := e.Digest()
	return rpc.EventRecord{
		RecNum: number, IMRIndex: 3, EventType: boot.EvEventTag,
		Digests:   []rpc.EventDigest{{AlgoID: rpc.AlgoSHA384, Hash: measured[:]}},
		EventSize: len(e.Measured), Event: e.Measured,
		ExtraInfo: map[string]string{"rtmr3_digest": hex.EncodeToString(whole[:])},
	}
}

// view is the event log that one caller sees at one moment.
type view struct {
	api      *API
	owner    string
	instance string
	own      int         // events of its own
	ima      *oslog.View // nil: RTMR2 is the boot log's alone
}

func (a *API) eventView(ctx context.Context, s *subject) (view, error) {
	v := view{api: a, owner: s.owner}
	if s.instance != nil {
		f, err := a.facts(ctx, s)
		if err != nil {
			return v, err
		}
		at, err := a.Ledger.Snapshot(s.owner)
		if err == nil && at.Owner.Instance != f.Instance {
			err = ledger.ErrReplaced
		}
		if err != nil {
			return v, err
		}
		v.instance, v.own = f.Instance, at.Owner.Held
	}
	if a.OSLog == nil {
		return v, nil
	}
	now, err := a.registers(ctx)
	if err != nil {
		return v, err
	}
	order := new(oslog.Order)
	if s.instance != nil {
		order = &s.instance.Order
	}
	v.ima, err = a.OSLog.View(order, now.RTMR[2], v.own, s.cgroup(), a.Config().Isolation == config.IsolationNone)
	return v, err
}

func (v view) total() int {
	if v.ima != nil {
		return v.api.bootChunk.count() + v.ima.Total()
	}
	return v.api.bootChunk.count() + v.own
}

// at returns the chunk with the record at position, and the position of the chunk's
// first record.
func (v view) at(position int) (c *chunk, first int, err error) {
	boot := v.api.bootChunk.count()
	if position < boot {
		return &v.api.bootChunk, 0, nil
	}
	if v.ima != nil {
		c, err = v.atMerged(position, boot)
		return c, position, err
	}
	number := (position - boot) / chunkRecords
	first = boot + number*chunkRecords
	wanted := min(chunkRecords, v.total()-first)
	c, err = v.api.chunks.get(chunkKey{v.owner, v.instance, number}, wanted, func() (*chunk, error) {
		events, err := v.api.Ledger.Held(v.owner, v.instance, number*chunkRecords, chunkRecords)
		if err != nil {
			return nil, err
		}
		c := new(chunk)
		for i, e := range events {
			c.add(ownRecord(e, first+i))
		}
		return c, nil
	})
	return c, first, err
}

// atMerged encodes a chunk from a position on. It isn't cached, because its records'
// numbers depend on the caller.
func (v view) atMerged(position, boot int) (*chunk, error) {
	c := new(chunk)
	isIMA, index, count := v.ima.Find(position - boot)
	count = min(count, chunkRecords)
	if isIMA {
		for i := range count {
			c.add(v.ima.Record(index+i, position+i))
		}
		return c, nil
	}
	events, err := v.api.Ledger.Held(v.owner, v.instance, index, count)
	for i, e := range events {
		c.add(ownRecord(e, position+i))
	}
	return c, err
}

func (a *API) ccEventLog(ctx context.Context, s *subject, p rpc.CCEventLogParams) (eventPage, error) {
	v, err := a.eventView(ctx, s)
	if err != nil {
		return eventPage{}, err
	}
	page := eventPage{total: v.total()}
	if p.Start > page.total {
		return page, rpc.InvalidParams("start", "start is %d and must be at most %d, the number of records", p.Start, page.total)
	}
	end := p.Start + rpc.MaxEventCount
	if p.Count > 0 {
		end = p.Start + p.Count
	}
	end = min(end, page.total)
	free := a.Config().Limits.Reply - pageSlack
	next := p.Start
	for next < end {
		c, first, err := v.at(next)
		if err != nil {
			return page, err
		}
		text, n := c.cut(next-first, end-next, free)
		if n == 0 {
			break
		}
		page.parts = append(page.parts, text)
		free -= len(text) + 1
		next += n
	}
	if next < page.total {
		if next == p.Start {
			return page, rpc.TooLarge(int64(a.Config().Limits.Reply), "record %d alone is larger than a reply may be", next)
		}
		page.next = next
	}
	return page, nil
}
