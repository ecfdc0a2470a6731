// Package collateral answers: which collateral does a verifier keep, and does it still hold?
//
// A Cache keeps Intel's documents, and AMD's lists, on disk, so that a verifier asks a service about once a
// day, and goes on without the service for as long as the documents are in date. The
// documents are signed, and an appraisal checks them each time; the cache checks them
// too, before it keeps them, so that a bad answer never takes the place of a good one.
package collateral

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/snp"
)

// When a service is asked. Intel's documents are good for 30 days; a new one may come on
// any day.
const (
	askAfter   = 24 * time.Hour   // age of a document at which the service is asked for a newer one
	firstPause = 10 * time.Second // after a failure; doubled with each further one
	longPause  = time.Hour
	patience   = 5 * time.Second // for a service, where the kept document is in date
)

// Cache is a dcap.Source and an snp.Source that keeps what others give. Several processes may
// use one folder.
type Cache struct {
	Dir   string              // made if absent, mode 0700
	From  dcap.Source         // Intel's service; nil: it is never asked
	AMD   snp.Source          // AMD's service; nil: it is never asked
	Roots []*x509.Certificate // who must have signed; nil: Intel or AMD, whose it is
	Warn  func(string)        // told of a service that doesn't answer while the kept document is in date; may be nil

	now func() time.Time // for tests
}

// Folder is where a user's documents are kept: the folder "cima/collateral" in
// $XDG_CACHE_HOME, or what the system has for caches.
func Folder() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no folder for a cache of collateral is known: %w", err)
	}
	return filepath.Join(dir, "cima", "collateral"), nil
}

// Get returns the kept document where it is in date and less than a day old. Else it asks
// the service. If that fails, the kept document is returned for as long as it is in date,
// and the service is not asked again before a pause. Errors are those of the service, of
// a folder that can't be written, and of ctx.
func (c *Cache) Get(ctx context.Context, doc dcap.Document, of string) (body, chain []byte, err error) {
	return c.get(ctx, Need{Kind: Kind(doc), Of: of})
}

// List is as Get, of a revocation list of AMD's.
func (c *Cache) List(ctx context.Context, line snp.Line, vlek bool) ([]byte, error) {
	body, _, err := c.get(ctx, ListNeed(line, vlek))
	return body, err
}

// Certificate is as Get, of a key's certificate, which is asked for again after 30 days. Only that of a key
// that signed the report is kept.
func (c *Cache) Certificate(ctx context.Context, report *snp.Report, key snp.Key) (leaf, above []byte, err error) {
	return c.get(ctx, KeyNeed(report, key))
}

func (c *Cache) get(ctx context.Context, n Need) (body, chain []byte, err error) {
	if e := c.read(n); e.fresh(c.time(), n.Kind.askAfter()) {
		return e.Body, e.Chain, nil
	}
	if !c.asks(n) {
		return c.offline(n)
	}
	unlock, err := c.lock(ctx, n.turn())
	if err != nil {
		return nil, nil, err
	}
	defer unlock()
	e := c.read(n) // another process may have asked meanwhile
	if e.fresh(c.time(), n.Kind.askAfter()) {
		return e.Body, e.Chain, nil
	}
	if p := c.readPause(n); c.time().Before(p.Until) {
		return c.rather(e, n, &PausedError{p.Why, p.Until})
	}
	got, err := c.ask(ctx, n, e)
	if err == nil {
		c.forgive(n)
		if n.unsigned(got.Body) {
			return got.Body, got.Chain, nil // for an appraisal to refuse
		}
		return got.Body, got.Chain, c.write(n, got)
	}
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	if !snp.Unknown(err) { // that one key is unknown says nothing of others
		c.pause(n, err)
	}
	return c.rather(e, n, err)
}

// ask gets a document from the service, and checks that it may be kept.
func (c *Cache) ask(ctx context.Context, n Need, kept *entry) (*entry, error) {
	if kept.inDate(c.time()) {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	body, chain, err := c.from(ctx, n)
	if err != nil {
		return nil, err
	}
	e := &entry{Form: entryForm, Fetched: c.time().UTC(), Body: body, Chain: chain}
	state := look(n, body, chain, c.Roots, c.time())
	e.Issued, e.Until = state.Issued, state.Until
	switch {
	case state.Word != Good:
		return nil, &BadDocumentError{state}
	case kept.inDate(c.time()) && e.Issued.Before(kept.Issued):
		return nil, &BadDocumentError{State{Document: n.Kind.String(), Word: Older, Detail: fmt.Sprintf("it was issued on %s, and the kept one on %s",
			e.Issued.UTC().Format(time.DateOnly), kept.Issued.UTC().Format(time.DateOnly))}}
	}
	return e, nil
}

// asks reports whether there is a service for this document.
func (c *Cache) asks(n Need) bool {
	if n.Kind.ofAMD() {
		return c.AMD != nil
	}
	return c.From != nil
}

// from asks the service.
func (c *Cache) from(ctx context.Context, n Need) (body, chain []byte, err error) {
	if !n.Kind.ofAMD() {
		return c.From.Get(ctx, dcap.Document(n.Kind), n.Of)
	}
	if n.Kind == vcek {
		return c.AMD.Certificate(ctx, n.report, n.key())
	}
	body, err = c.AMD.List(ctx, n.line(), n.Kind == vlekList)
	return body, nil, err
}

// rather returns the kept document where it is in date, and says why it is not a newer one.
func (c *Cache) rather(e *entry, n Need, why error) (body, chain []byte, err error) {
	if !e.inDate(c.time()) {
		return nil, nil, why
	}
	if c.Warn != nil {
		c.Warn(fmt.Sprintf("%s of %s is used: %v", n.Kind, e.Fetched.UTC().Format(time.DateOnly), why))
	}
	return e.Body, e.Chain, nil
}

func (c *Cache) offline(n Need) (body, chain []byte, err error) {
	e := c.read(n)
	if e.inDate(c.time()) {
		return e.Body, e.Chain, nil
	}
	why := errors.New("it is not in the cache")
	if e != nil {
		why = fmt.Errorf("the one in the cache was good until %s", e.Until.UTC().Format(time.DateOnly))
	}
	return nil, nil, &dcap.FileError{Err: fmt.Errorf("%s: %w", n.name(), why)}
}

func (c *Cache) time() time.Time {
	if c.now != nil {
		return c.now()
	}
	return time.Now()
}

// PausedError says that a service failed, and is left alone for a while.
type PausedError struct {
	why   string
	until time.Time
}

// Error says how it failed, and when it is asked again.
func (e *PausedError) Error() string {
	return fmt.Sprintf("%s; it is asked again after %s", e.why, e.until.UTC().Format(time.RFC3339))
}

// BadDocumentError says that a service gave a document that can't be used.
type BadDocumentError struct{ state State }

// Error says which document it is, and what is wrong with it.
func (e *BadDocumentError) Error() string {
	return fmt.Sprintf("the service's %s can't be used: %s", e.state.Document, e.state.Words())
}
