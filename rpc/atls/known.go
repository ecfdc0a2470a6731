package atls

import (
	"bytes"
	"slices"
	"sync"

	"github.com/cima-project/cima/logs/canonical"
	"github.com/cima-project/cima/rpc"
)

const (
	maxKnown      = 16       // containers whose logs are kept
	maxKnownBytes = 32 << 20 // of all logs
)

// known is the logs of evidence that was appraised well, so that they need not travel again.
// Nothing is believed because it is here: evidence that is put together of it is appraised
// as a whole.
type known struct {
	mu   sync.Mutex
	logs []ofContainer // the one that was last used is the last
}

type ofContainer struct {
	name  string // the agent and its caller
	parts *parts
	size  int
}

// nameOf tells whose logs a report is about, by its own claims.
func nameOf(report []byte) string {
	var r struct {
		Claims struct {
			Agent     rpc.Digest `json:"agent"`
			Container struct {
				ID string `json:"id"`
			} `json:"container"`
			Host struct {
				Unit string `json:"unit"`
			} `json:"host"`
		} `json:"claims"`
	}
	if canonical.Decode(report, &r) != nil {
		return ""
	}
	return r.Claims.Agent.String() + "\x00" + r.Claims.Container.ID + "\x00" + r.Claims.Host.Unit
}

// find returns the logs that a report is about, if they are all here, and otherwise the part
// of them that can be the beginning.
func (k *known) find(report []byte, want stand) (all, beginning *parts) {
	beginning = &parts{chain: make([]rpc.Digest, 1)}
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, l := range k.logs {
		if l.parts.whole() == want { // the digest says that they are the same
			k.logs = append(slices.Delete(k.logs, i, i+1), l)
			return l.parts, nil
		}
	}
	if len(k.logs) == 0 {
		return nil, beginning
	}
	name := nameOf(report)
	for _, l := range k.logs {
		if l.name == name {
			beginning = l.parts.stable()
		}
	}
	return nil, beginning
}

// stable leaves out what changes as a log grows: the operating system's logs, and a run of
// digests at the end.
func (p *parts) stable() *parts {
	n := len(p.pieces) - 1
	if n > 1 && bytes.HasPrefix(p.pieces[n-1], []byte(`{"digests"`)) {
		n--
	}
	return &parts{pieces: p.pieces[:n:n], chain: p.chain[: n+1 : n+1]}
}

// keep remembers logs of evidence that was appraised well.
func (k *known) keep(report []byte, p *parts) {
	l := ofContainer{name: nameOf(report), parts: p}
	for _, piece := range p.pieces {
		l.size += len(piece) + len(rpc.Digest{}) + 24
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.logs = slices.DeleteFunc(k.logs, func(o ofContainer) bool { return o.name == l.name })
	k.logs = append(k.logs, l)
	total := 0
	for i, o := range slices.Backward(k.logs) {
		if total += o.size; total > maxKnownBytes || len(k.logs)-i > maxKnown {
			k.logs = slices.Delete(k.logs, 0, i+1)
			return
		}
	}
}
