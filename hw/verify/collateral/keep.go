package collateral

import (
	"context"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cima-project/cima/hw/verify/dcap"
)

// Need is a document that an appraisal takes.
type Need struct {
	Document dcap.Document
	Of       string // the FMSPC, or "platform" or "processor"; else ""
}

// Needs are the documents on one kind of platform, in the order in which they are shown.
func Needs(fmspc, ca string) []Need {
	return []Need{{dcap.TCBInfo, fmspc}, {dcap.QEIdentity, ""}, {dcap.PCKCRL, ca}, {dcap.RootCRL, ""}}
}

// Fetch asks the service now, whatever is kept and whenever the service failed last, and
// keeps the answer.
func (c *Cache) Fetch(ctx context.Context, n Need) (State, error) {
	unlock, err := c.lock(ctx, name(n.Document, n.Of))
	if err != nil {
		return State{}, err
	}
	defer unlock()
	e, err := c.ask(ctx, n.Document, n.Of, c.read(n.Document, n.Of))
	if err != nil {
		return State{}, err
	}
	c.forgive(n.Document, n.Of)
	return look(n, e.Body, e.Chain, c.Roots, c.time()), c.write(n.Document, n.Of, e)
}

// Export writes a document into a folder, as dcap.Dir reads it.
func Export(dir string, n Need, body, chain []byte) error {
	path := filepath.Join(dir, dcap.FileName(n.Document, safe(n.Of)))
	if n.Document != dcap.RootCRL {
		if err := writeWhole(path+".chain", chain); err != nil {
			return err
		}
	}
	return writeWhole(path, body)
}

// Held is the source that gives what a cache keeps, in date or not: for whoever looks, and
// not for an appraisal.
type Held string

// Get reads the cache. A document that is absent is a *dcap.FileError.
func (dir Held) Get(_ context.Context, doc dcap.Document, of string) (body, chain []byte, err error) {
	e := (&Cache{Dir: string(dir)}).read(doc, of)
	if e == nil {
		return nil, nil, &dcap.FileError{Err: errors.New(name(doc, of) + kept + " is not in the cache")}
	}
	return e.Body, e.Chain, nil
}

// Kept are the states of all documents in a folder at a time: of a cache, or of files that
// dcap.Dir reads. A folder that is absent has none.
func Kept(ctx context.Context, dir string, roots []*x509.Certificate, at time.Time) ([]State, error) {
	files, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var states []State
	for _, f := range files {
		if n, ok := parseName(f.Name()); ok {
			var source dcap.Source = dcap.Dir(dir)
			if strings.HasSuffix(f.Name(), kept) {
				source = Held(dir)
			}
			states = append(states, StateOf(ctx, source, n, roots, at))
		}
	}
	slices.SortStableFunc(states, func(a, b State) int { return strings.Compare(a.Document, b.Document) })
	return states, nil
}

// StateOf says how the document that a source gives stands at a time.
func StateOf(ctx context.Context, source dcap.Source, n Need, roots []*x509.Certificate, at time.Time) State {
	body, chain, err := source.Get(ctx, n.Document, n.Of)
	if err == nil {
		return look(n, body, chain, roots, at)
	}
	s := State{Document: n.Document.String(), Of: n.Of, Word: Bad, Detail: err.Error()}
	var absent *dcap.FileError
	if errors.As(err, &absent) {
		s.Word, s.Detail = Missing, absent.Err.Error()
	}
	return s
}

// parseName says which document a file of a folder holds. False: none.
func parseName(file string) (Need, bool) {
	stem := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(file, kept), ".json"), ".der")
	for _, n := range Needs("", "") {
		of, ok := strings.CutPrefix(stem, name(n.Document, ""))
		n.Of = safe(of)
		if !ok || (file != name(n.Document, n.Of)+kept && file != dcap.FileName(n.Document, n.Of)) {
			continue
		}
		return n, (n.Of != "") == (n.Document == dcap.TCBInfo || n.Document == dcap.PCKCRL)
	}
	return Need{}, false
}
