package rpc

import (
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"iter"
)

// ErrReplay is in every error of an event log that can't be replayed.
var ErrReplay = errors.New("the event log can't be replayed")

const (
	evNoAction       = 3 // an event that extends nothing (TCG PC Client Platform Firmware Profile)
	containerIndex   = 3
	replayAttempts   = 10 // while events are logged
	sizeOfSHA384     = len(Digest{})
	registersOfAView = MaxIndex + 1
)

// Replay returns the registers that a whole event log gives, by index: 48 zero bytes,
// extended with the SHA-384 digest of one record after the other.
//
// The digests of records of index 3 are checked. Those of boot events are not, because
// in general no digest covers what they say (cima-evidence(7), Boot log).
func Replay(events iter.Seq2[EventRecord, error]) (registers [registersOfAView]Digest, err error) {
	position := 0
	for e, err := range events {
		if err != nil {
			return registers, err
		}
		if e.RecNum != position || e.IMRIndex < 0 || e.IMRIndex > MaxIndex {
			return registers, fmt.Errorf("%w: record %d of index %d must be record %d: the whole log is needed", ErrReplay, e.RecNum, e.IMRIndex, position)
		}
		position++
		if e.EventType == evNoAction && e.IMRIndex != containerIndex {
			continue
		}
		digest, err := e.sha384()
		if err != nil {
			return registers, err
		}
		register := &registers[e.IMRIndex]
		*register = sha512.Sum384(append(register[:], digest...))
	}
	return registers, nil
}

// sha384 is the digest that extends the register.
func (r *EventRecord) sha384() ([]byte, error) {
	for _, d := range r.Digests {
		if d.AlgoID != AlgoSHA384 || len(d.Hash) != sizeOfSHA384 {
			continue
		}
		if r.IMRIndex == containerIndex && sha512.Sum384(r.Event) != Digest(d.Hash) {
			return nil, fmt.Errorf("%w: the digest of record %d must be that of its event", ErrReplay, r.RecNum)
		}
		return d.Hash, nil
	}
	return nil, fmt.Errorf("%w: record %d must have a SHA-384 digest", ErrReplay, r.RecNum)
}

// Comparison is one register: what the event log gives, and what it holds.
type Comparison struct {
	Index    int
	Replayed Digest
	Register Digest
}

// Equal reports whether the log explains the register.
func (c Comparison) Equal() bool { return c.Replayed == c.Register }

// CompareEventLog replays the event log and compares it with the registers. It reads
// both again until nothing was logged meanwhile. All of that is the daemon's word;
// only the appraisal of evidence shows whether it is true (hw/verify.Appraise,
// cimactl verify).
func (c *Client) CompareEventLog(ctx context.Context) ([]Comparison, error) {
	before, err := c.registers(ctx)
	for range replayAttempts {
		if err != nil {
			return nil, err
		}
		replayed, err := Replay(c.Events(ctx, CCEventLogParams{}))
		if err != nil {
			return nil, err
		}
		after, err := c.registers(ctx)
		if err != nil {
			return nil, err
		}
		same := len(before) == len(after)
		compared := make([]Comparison, len(after))
		for i := range after {
			same = same && before[i] == after[i]
			compared[i] = Comparison{Index: i, Replayed: replayed[i], Register: after[i]}
		}
		if same {
			return compared, nil
		}
		before = after
	}
	return nil, fmt.Errorf("%w: the registers change faster than the log can be read", ErrReplay)
}

// registers returns those that GetCCMeasurement knows, in order.
func (c *Client) registers(ctx context.Context) ([]Digest, error) {
	count, err := c.GetMeasurementCount(ctx)
	if err != nil {
		return nil, err
	}
	if count.Count < 0 || count.Count > registersOfAView {
		return nil, fmt.Errorf("%s: %d registers, and only %d are known", MethodGetMeasurementCount, count.Count, registersOfAView)
	}
	all := make([]Digest, count.Count)
	for i := range all {
		m, err := c.GetCCMeasurement(ctx, CCMeasurementParams{Index: i})
		if err != nil {
			return nil, err
		}
		all[i] = m.Hash
	}
	return all, nil
}
