package daemon

import (
	"context"
	"encoding/base64"
	"encoding/hex"

	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// The event log in the view of CIMA 0.5: the boot's events, which are the
// same for all callers, then the caller's own. It replays to RTMR0–2 and to
// the container register. What replays to RTMR3 is in GetEvidence.

// Slack of a page: the reply's other members, and a record's JSON beside its
// event and digests.
const (
	pageSlack   = 1 << 10
	recordSlack = 512
)

// bootRecords are the boot log's part of the view, made once.
func bootRecords(bootLog []byte) ([]rpc.EventRecord, error) {
	parsed, err := logs.ParseBootLog(bootLog)
	if err != nil {
		return nil, err
	}
	var records []rpc.EventRecord
	for v := range parsed.UnverifiedView() {
		if v.IMR > 2 {
			continue // RTMR3 is the runtime log's
		}
		records = append(records, rpc.EventRecord{
			RecNum: len(records), IMRIndex: v.IMR, EventType: v.Type,
			Digests:   []rpc.EventDigest{{AlgoID: int(v.Alg), Hash: v.Digest}},
			EventSize: len(v.Event), Event: v.Event,
		})
	}
	return records, nil
}

// ownRecords are the events of the caller's instance that its container
// register holds.
func (d *Daemon) ownRecords(ctx context.Context, s *subject) ([]rpc.EventRecord, error) {
	if s.instance == nil {
		return nil, nil
	}
	if _, err := d.facts(ctx, s); err != nil {
		return nil, err
	}
	events, err := d.ledger.Events(s.owner)
	if err != nil {
		return nil, err
	}
	var records []rpc.EventRecord
	for _, e := range events {
		measured, ok := e.MeasuredDigest()
		if !ok {
			continue
		}
		whole := e.Digest()
		records = append(records, rpc.EventRecord{
			RecNum: len(d.bootView) + len(records), IMRIndex: 3, EventType: logs.EvEventTag,
			Digests:   []rpc.EventDigest{{AlgoID: rpc.AlgoSHA384, Hash: measured[:]}},
			EventSize: len(e.Measured), Event: e.Measured,
			ExtraInfo: map[string]string{"rtmr3_digest": hex.EncodeToString(whole[:])},
		})
	}
	return records, nil
}

func (d *Daemon) ccEventLog(ctx context.Context, s *subject, p rpc.CCEventLogParams) (rpc.CCEventLog, error) {
	own, err := d.ownRecords(ctx, s)
	if err != nil {
		return rpc.CCEventLog{}, err
	}
	page := rpc.CCEventLog{Events: []rpc.EventRecord{}, Total: len(d.bootView) + len(own)}
	if p.Start > page.Total {
		return page, rpc.InvalidParams("start", "start is %d, and the log has %d records", p.Start, page.Total)
	}
	count := p.Count
	if count == 0 {
		count = rpc.MaxEventCount
	}
	room := d.config().Limits.Reply - pageSlack
	next := p.Start
	for ; next < page.Total && len(page.Events) < count; next++ {
		record := recordAt(d.bootView, own, next)
		if room -= recordSize(record); room < 0 {
			break
		}
		page.Events = append(page.Events, record)
	}
	if next < page.Total {
		if next == p.Start {
			return page, rpc.TooLarge(int64(d.config().Limits.Reply), "record %d alone is larger than a reply may be", next)
		}
		page.Next = next
	}
	return page, nil
}

func recordAt(boot, own []rpc.EventRecord, at int) rpc.EventRecord {
	if at < len(boot) {
		return boot[at]
	}
	return own[at-len(boot)]
}

// recordSize is about what a record takes on the wire, and never less.
func recordSize(r rpc.EventRecord) int {
	size := recordSlack + base64.StdEncoding.EncodedLen(len(r.Event))
	for _, d := range r.Digests {
		size += hex.EncodedLen(len(d.Hash)) + 64
	}
	return size
}
