package dcap

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"sync"
	"time"
)

// Bounds of what is held. Whoever sends evidence chooses the certificates in it, but only
// what a trusted root signed is held.
const (
	maxAuthorities = 64
	maxSets        = 256
)

// holdFor is for how long verified collateral is used before it is asked for again: a
// revocation that was published is seen that much later at the most.
const holdFor = time.Hour

// Held is what was verified once, for many quotes and goroutines: certificates above the
// PCK, and collateral. Whatever it holds was judged by the same code as without it, and
// its dates are compared each time; what failed is not held.
type Held struct {
	mu          sync.Mutex
	authorities map[[sha256.Size]byte]*x509.CertPool
	sets        map[setName]*heldSet
}

// NewHeld is empty.
func NewHeld() *Held {
	return &Held{authorities: make(map[[sha256.Size]byte]*x509.CertPool), sets: make(map[setName]*heldSet)}
}

// authority checks that the trusted root vouches for the CA of a quote's chain, and that
// the root in the chain is of the same authority. The pool has the CA alone. Dates of ca
// and root are the caller's to check, and the trusted root's are checked here.
func (h *Held) authority(ca, root, trusted *x509.Certificate, at time.Time) (*x509.CertPool, error) {
	if at.Before(trusted.NotBefore) || at.After(trusted.NotAfter) {
		return nil, fmt.Errorf("the trusted root is good from %s to %s", trusted.NotBefore.Format(time.DateOnly), trusted.NotAfter.Format(time.DateOnly))
	}
	name := digestOf(ca.Raw, root.Raw, trusted.Raw)
	h.mu.Lock()
	pool := h.authorities[name]
	h.mu.Unlock()
	if pool != nil {
		return pool, nil
	}
	for _, of := range []struct{ c, issuer *x509.Certificate }{{root, root}, {ca, root}} {
		if err := of.c.CheckSignatureFrom(of.issuer); err != nil {
			return nil, fmt.Errorf("%s of the quote's chain: %w", of.c.Subject.CommonName, err)
		}
	}
	roots := x509.NewCertPool()
	roots.AddCert(trusted)
	if _, err := ca.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: at}); err != nil {
		return nil, err
	}
	pool = x509.NewCertPool()
	pool.AddCert(ca)
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.authorities) >= maxAuthorities {
		clear(h.authorities)
	}
	h.authorities[name] = pool
	return pool, nil
}

// digestOf is a digest over parts and where each ends.
func digestOf(parts ...[]byte) [sha256.Size]byte {
	all := sha256.New()
	for _, p := range parts {
		one := sha256.Sum256(p)
		all.Write(one[:])
	}
	return [sha256.Size]byte(all.Sum(nil))
}

// setName names collateral of the platforms of one kind, under the issuers of one chain.
type setName struct {
	fmspc, ca string
	issuers   [sha256.Size]byte
}

// heldSet is collateral that was verified. Whoever asks for it has the turn, so that many
// who need the same set at once cause one question.
type heldSet struct {
	turn  chan struct{} // has one element while somebody has the turn
	set   *set
	taken time.Time
}

// begin waits for the turn, or until ctx ends.
func (one *heldSet) begin(ctx context.Context) error {
	select {
	case one.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (one *heldSet) end() { <-one.turn }

// Collateral gets what a source says of the platform of a quote whose chain is trusted, as
// of the time at, and checks it. The first error is the source's or
// ctx's, or says that the PCK certificate can't be read; the second says why the documents
// can't be used.
func (h *Held) Collateral(ctx context.Context, source Source, q *Quote, at time.Time) (c *Collateral, unavailable, unusable error) {
	p, err := q.platform()
	if err != nil {
		return nil, err, nil
	}
	one := h.setOf(setName{p.fmspc, p.ca, digestOf(q.Chain[1].Raw, q.Chain[2].Raw)})
	if err := one.begin(ctx); err != nil {
		return nil, err, nil
	}
	defer one.end()
	if one.set == nil || time.Since(one.taken) > holdFor || !one.set.good.holds(at) {
		one.set = nil
		taken := time.Now()
		docs, err := gather(ctx, source, p)
		if err != nil {
			return nil, err, nil
		}
		made, err := docs.read(p, q.Chain[1], q.Chain[2], at)
		if err != nil {
			return nil, nil, err
		}
		one.set, one.taken = made, taken
	}
	c, err = one.set.of(p, q.Chain[0])
	return c, nil, err
}

func (h *Held) setOf(name setName) *heldSet {
	h.mu.Lock()
	defer h.mu.Unlock()
	one := h.sets[name]
	if one == nil {
		if len(h.sets) >= maxSets {
			clear(h.sets)
		}
		one = &heldSet{turn: make(chan struct{}, 1)}
		h.sets[name] = one
	}
	return one
}
