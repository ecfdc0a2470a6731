package atls

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/cima-project/cima/rpc"
)

// parts is evidence taken apart, so that its logs need not travel to who has them: the
// report is the evidence without its logs, a JSON object. Pieces are JSON values as the
// evidence has them: the boot log, each entry of the runtime log, and the logs of the
// operating system, of which none is a piece of no bytes.
type parts struct {
	report []byte
	pieces [][]byte
	chain  []rpc.Digest // of the first i pieces: chain[0] is zero
}

// Members of evidence that are no report.
const bootLog, osLogs, runtimeLog = "boot_log", "os_logs", "runtime_log"

// link is the chain behind one more piece.
func link(chain rpc.Digest, piece []byte) rpc.Digest {
	own := sha512.Sum384(piece)
	return sha512.Sum384(append(chain[:], own[:]...))
}

// whole is the chain over all pieces.
func (p *parts) whole() stand { return stand{len(p.pieces), p.chain[len(p.pieces)]} }

func (p *parts) add(piece []byte) {
	p.pieces = append(p.pieces, piece)
	p.chain = append(p.chain, link(p.chain[len(p.chain)-1], piece))
}

// takeApart reads evidence that this end's daemon gave.
func takeApart(evidence []byte) (*parts, error) {
	d := jsontext.NewDecoder(bytes.NewBuffer(evidence))
	if k := d.PeekKind(); k != jsontext.KindBeginObject {
		return nil, errors.New("the daemon's evidence must be a JSON object")
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, err
	}
	report, logs := []byte{}, map[string]jsontext.Value{}
	for d.PeekKind() != jsontext.KindEndObject {
		name, err := d.ReadValue()
		if err != nil {
			return nil, err
		}
		name = slices.Clone(name)
		value, err := d.ReadValue()
		if err != nil {
			return nil, err
		}
		switch n := string(name[1 : len(name)-1]); n {
		case bootLog, osLogs, runtimeLog:
			logs[n] = slices.Clone(value)
		default:
			report = append(append(append(append(report, ','), name...), ':'), value...)
		}
	}
	if len(report) == 0 || len(logs[bootLog]) == 0 {
		return nil, errors.New("the daemon's evidence must have claims and logs")
	}
	report[0] = '{'
	p := &parts{report: append(report, '}'), chain: make([]rpc.Digest, 1)}
	p.add(logs[bootLog])
	entries := jsontext.NewDecoder(bytes.NewBuffer(logs[runtimeLog]))
	if k := entries.PeekKind(); k != jsontext.KindBeginArray {
		return nil, fmt.Errorf("the daemon's evidence must have the array %s", runtimeLog)
	}
	if _, err := entries.ReadToken(); err != nil {
		return nil, err
	}
	for entries.PeekKind() != jsontext.KindEndArray {
		entry, err := entries.ReadValue()
		if err != nil {
			return nil, err
		}
		p.add(slices.Clone(entry))
	}
	p.add(logs[osLogs])
	return p, nil
}

// together is the evidence again. The report comes from the other end and may be anything:
// whoever appraises reads the whole.
func together(report []byte, pieces [][]byte) ([]byte, error) {
	size := len(report) + 64
	for _, p := range pieces {
		size += len(p) + 1
	}
	if size > rpc.MaxEvidence {
		return nil, fmt.Errorf("the other end's evidence must have at most %d bytes", rpc.MaxEvidence)
	}
	body, isObject := bytes.CutSuffix(report, []byte("}"))
	if !isObject || len(pieces) < 2 {
		return nil, errors.New("the other end's report must be a JSON object")
	}
	last := len(pieces) - 1
	to := append(make([]byte, 0, size), body...)
	to = append(append(to, `,"`+bootLog+`":`...), pieces[0]...)
	if len(pieces[last]) > 0 {
		to = append(append(to, `,"`+osLogs+`":`...), pieces[last]...)
	}
	to = append(to, `,"`+runtimeLog+`":[`...)
	to = append(to, bytes.Join(pieces[1:last], []byte(","))...)
	return append(to, "]}"...), nil
}

// stand is how many pieces there are, and the chain over them.
type stand struct {
	count int
	chain rpc.Digest
}

const (
	standSize = 4 + 48
	maxPieces = 1 << 21 // an event has more than 8 bytes
)

func (s stand) append(to []byte) []byte {
	return append(binary.BigEndian.AppendUint32(to, uint32(s.count)), s.chain[:]...)
}

func readStand(b []byte) (s stand, err error) {
	n := binary.BigEndian.Uint32(b)
	if n > maxPieces {
		return s, fmt.Errorf("the other end's logs have %d pieces; they must have at most %d", n, maxPieces)
	}
	return stand{int(n), rpc.Digest(b[4:standSize])}, nil
}

// from returns what somebody lacks who has this: the first piece, and the body of the frame.
// It is all where somebody has something else. No frame is due where nothing lacks.
func (p *parts) from(has stand) (body []byte, due bool) {
	at := 0
	if has.count <= len(p.pieces) && p.chain[has.count] == has.chain {
		at = has.count
	}
	if at == len(p.pieces) {
		return nil, false
	}
	body = binary.BigEndian.AppendUint32(nil, uint32(at))
	for _, piece := range p.pieces[at:] {
		body = append(binary.BigEndian.AppendUint32(body, uint32(len(piece))), piece...)
	}
	return body, true
}

// readLogs reads the pieces that follow those that this end has, and checks that all come to
// what the report said. It keeps to the body's bytes.
func readLogs(body []byte, has *parts, want stand) (*parts, error) {
	const lead = 4
	if len(body) < lead {
		return nil, errors.New("the other end's logs end too soon")
	}
	at := int(binary.BigEndian.Uint32(body))
	if at != 0 && at != len(has.pieces) {
		return nil, fmt.Errorf("the other end's logs begin at the piece %d, and must at 0 or %d", at, len(has.pieces))
	}
	p := &parts{pieces: slices.Clone(has.pieces[:at]), chain: slices.Clone(has.chain[:at+1])}
	for body = body[lead:]; len(body) > 0; {
		if len(body) < lead || uint64(binary.BigEndian.Uint32(body)) > uint64(len(body)-lead) {
			return nil, errors.New("the other end's logs end within a piece")
		}
		size := int(binary.BigEndian.Uint32(body))
		if len(p.pieces) == want.count {
			return nil, fmt.Errorf("the other end's logs have more than the %d pieces of its report", want.count)
		}
		p.add(body[lead : lead+size])
		body = body[lead+size:]
	}
	if p.whole() != want {
		return nil, errors.New("the other end's logs aren't those of its report")
	}
	return p, nil
}

// divider takes evidence apart once for all sessions that share it.
type divider struct {
	mu    sync.Mutex
	of    *byte // the first byte of the last evidence
	parts *parts
}

func (d *divider) divide(evidence []byte) (*parts, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(evidence) > 0 && d.of == &evidence[0] {
		return d.parts, nil
	}
	p, err := takeApart(evidence)
	if err == nil {
		d.of, d.parts = &evidence[0], p
	}
	return p, err
}
