package tree

import (
	"context"
	"encoding/json/jsontext"
	"errors"
	"sync"
	"time"

	"github.com/cima-project/cima/rpc"
)

// Daemon is who gives evidence of this process's container: *rpc.Client.
type Daemon interface {
	GetEvidence(ctx context.Context, p rpc.EvidenceParams) (jsontext.Value, error)
}

// Prover proves for all calls and sessions of a process. It asks the daemon for one thing at
// a time; what comes meanwhile is the leaves of the next tree. A process should have one
// Prover.
type Prover struct {
	daemon Daemon

	mu   sync.Mutex
	next *batch // takes leaves; nil if nobody waits
	busy bool
}

// NewProver makes a Prover that asks this daemon.
func NewProver(d Daemon) *Prover { return &Prover{daemon: d} }

// batch is all that share a quote.
type batch struct {
	leaves   [][64]byte
	waiting  int // that haven't given up
	ctx      context.Context
	giveUp   context.CancelFunc
	done     chan struct{} // closed when what follows is set
	tree     *rpc.Tree
	evidence jsontext.Value
	err      error
}

// Prove gives evidence that binds this to who sent the nonce. It waits for a quote.
func (p *Prover) Prove(ctx context.Context, b Binding, nonce []byte) (*Proof, error) {
	leaf, err := b.leaf(nonce)
	if err != nil {
		return nil, err
	}
	return p.prove(ctx, leaf)
}

func (p *Prover) prove(ctx context.Context, leaf [64]byte) (*Proof, error) {
	b, at := p.join(leaf)
	select {
	case <-b.done:
	case <-ctx.Done():
		p.leave(b)
		return nil, context.Cause(ctx)
	}
	if b.err != nil {
		return nil, b.err
	}
	return &Proof{Tree: b.tree.Shared(at), Evidence: b.evidence}, nil
}

func (p *Prover) join(leaf [64]byte) (b *batch, at int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next == nil || len(p.next.leaves) == rpc.MaxShared {
		// A full one has been taken by run, or is about to: those in it wait by their own.
		full := p.next
		p.next = &batch{done: make(chan struct{})}
		p.next.ctx, p.next.giveUp = context.WithCancel(context.Background())
		if full != nil {
			go p.settle(full)
		}
	}
	b, at = p.next, len(p.next.leaves)
	b.leaves = append(b.leaves, leaf)
	b.waiting++
	if !p.busy {
		p.busy = true
		go p.run()
	}
	return b, at
}

// leave lets go of a batch for which nobody waits.
func (p *Prover) leave(b *batch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if b.waiting--; b.waiting > 0 {
		return
	}
	if p.next == b {
		p.next = nil
	}
	b.giveUp()
}

func (p *Prover) run() {
	for {
		p.mu.Lock()
		b := p.next
		p.next = nil
		p.busy = b != nil
		p.mu.Unlock()
		if b == nil {
			return
		}
		p.settle(b)
	}
}

// settle asks the daemon for the evidence of a batch.
func (p *Prover) settle(b *batch) {
	defer close(b.done)
	defer b.giveUp()
	if b.tree, b.err = rpc.NewTree(b.leaves); b.err != nil {
		return
	}
	root, err := b.tree.Shared(0).Root(b.leaves[0])
	if err != nil {
		b.err = err
		return
	}
	nonce, userData := ofRoot(root, len(b.leaves))
	b.evidence, b.err = p.ask(b.ctx, rpc.EvidenceParams{Nonce: nonce, UserData: userData})
}

// ask asks again as long as the daemon says when, and somebody waits.
func (p *Prover) ask(ctx context.Context, params rpc.EvidenceParams) (jsontext.Value, error) {
	for {
		evidence, err := p.daemon.GetEvidence(ctx, params)
		var e *rpc.Error
		if !errors.As(err, &e) || e.Code != rpc.CodeRateLimited && e.Code != rpc.CodeNotReady {
			return evidence, err
		}
		select {
		case <-time.After(max(e.RetryAfter(), time.Millisecond)):
		case <-ctx.Done():
			return nil, err
		}
	}
}
