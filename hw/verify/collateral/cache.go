// Package collateral answers: which collateral does a verifier keep, and does it still hold?
//
// A Cache keeps Intel's documents on disk, so that a verifier asks a service about once a
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
)

// When a service is asked. Intel's documents are good for 30 days; a new one may come on
// any day.
const (
	askAfter   = 24 * time.Hour   // age of a document at which the service is asked for a newer one
	firstPause = 10 * time.Second // after a failure; doubled with each further one
	longPause  = time.Hour
	patience   = 5 * time.Second // for a service, where the kept document is in date
)

// Cache is a dcap.Source that keeps what another source gives. Several processes may use
// one folder.
type Cache struct {
	Dir   string              // made if absent, mode 0700
	From  dcap.Source         // nil: the service is never asked
	Roots []*x509.Certificate // who must have signed; nil: Intel
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
	if e := c.read(doc, of); e.fresh(c.time()) {
		return e.Body, e.Chain, nil
	}
	if c.From == nil {
		return c.offline(doc, of)
	}
	unlock, err := c.lock(ctx, name(doc, of))
	if err != nil {
		return nil, nil, err
	}
	defer unlock()
	e := c.read(doc, of) // another process may have asked meanwhile
	if e.fresh(c.time()) {
		return e.Body, e.Chain, nil
	}
	if p := c.readPause(doc, of); c.time().Before(p.Until) {
		return c.rather(e, doc, fmt.Errorf("%s; it is asked again after %s", p.Why, p.Until.UTC().Format(time.RFC3339)))
	}
	got, err := c.ask(ctx, doc, of, e)
	if err == nil {
		c.forgive(doc, of)
		return got.Body, got.Chain, c.write(doc, of, got)
	}
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	c.pause(doc, of, err)
	return c.rather(e, doc, err)
}

// ask gets a document from the service, and checks that it may be kept.
func (c *Cache) ask(ctx context.Context, doc dcap.Document, of string, kept *entry) (*entry, error) {
	if kept.inDate(c.time()) {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	body, chain, err := c.From.Get(ctx, doc, of)
	if err != nil {
		return nil, err
	}
	e := &entry{Form: entryForm, Fetched: c.time().UTC(), Body: body, Chain: chain}
	state := look(Need{doc, of}, body, chain, c.Roots, c.time())
	e.Issued, e.Until = state.Issued, state.Until
	switch {
	case state.Word != Good:
		return nil, &BadDocumentError{state}
	case kept.inDate(c.time()) && e.Issued.Before(kept.Issued):
		return nil, &BadDocumentError{State{Document: doc.String(), Word: Older, Detail: fmt.Sprintf("it was issued on %s, and the kept one on %s",
			e.Issued.UTC().Format(time.DateOnly), kept.Issued.UTC().Format(time.DateOnly))}}
	}
	return e, nil
}

// rather returns the kept document where it is in date, and says why it is not a newer one.
func (c *Cache) rather(e *entry, doc dcap.Document, why error) (body, chain []byte, err error) {
	if !e.inDate(c.time()) {
		return nil, nil, why
	}
	if c.Warn != nil {
		c.Warn(fmt.Sprintf("%s of %s is used: %v", doc, e.Fetched.UTC().Format(time.DateOnly), why))
	}
	return e.Body, e.Chain, nil
}

func (c *Cache) offline(doc dcap.Document, of string) (body, chain []byte, err error) {
	e := c.read(doc, of)
	if e.inDate(c.time()) {
		return e.Body, e.Chain, nil
	}
	why := errors.New("it is not in the cache")
	if e != nil {
		why = fmt.Errorf("the one in the cache was good until %s", e.Until.UTC().Format(time.DateOnly))
	}
	return nil, nil, &dcap.FileError{Err: fmt.Errorf("%s: %w", name(doc, of), why)}
}

func (c *Cache) time() time.Time {
	if c.now != nil {
		return c.now()
	}
	return time.Now()
}

// BadDocumentError says that a service gave a document that can't be used.
type BadDocumentError struct{ state State }

// Error says which document it is, and what is wrong with it.
func (e *BadDocumentError) Error() string {
	return fmt.Sprintf("the service's %s can't be used: %s", e.state.Document, e.state.Words())
}
