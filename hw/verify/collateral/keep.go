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
	"github.com/cima-project/cima/hw/verify/snp"
)

// Fetch asks the service now, whatever is kept and whenever the service failed last, and
// keeps the answer.
func (c *Cache) Fetch(ctx context.Context, n Need) (State, error) {
	unlock, err := c.lock(ctx, n.turn())
	if err != nil {
		return State{}, err
	}
	defer unlock()
	e, err := c.ask(ctx, n, c.read(n))
	if err != nil {
		return State{}, err
	}
	if n.unsigned(e.Body) {
		return State{}, &BadDocumentError{State{Document: n.Kind.String(), Word: Foreign, Detail: "its key did not sign the report"}}
	}
	c.forgive(n)
	return look(n, e.Body, e.Chain, c.Roots, c.time()), c.write(n, e)
}

// Export writes a document into a folder, as dcap.Dir and snp.Dir read it.
func Export(dir string, n Need, body, chain []byte) error {
	path := filepath.Join(dir, n.file())
	if !n.Kind.alone() && len(chain) > 0 {
		if err := writeWhole(path+".chain", chain); err != nil {
			return err
		}
	}
	return writeWhole(path, body)
}

// Source gives documents. Those that are absent are a *dcap.FileError or an *snp.FileError.
type Source interface {
	Document(ctx context.Context, n Need) (body, chain []byte, err error)
}

// Files is a folder that dcap.Dir and snp.Dir read.
type Files string

// Document reads a file.
func (dir Files) Document(ctx context.Context, n Need) (body, chain []byte, err error) {
	if !n.Kind.ofAMD() {
		return dcap.Dir(dir).Get(ctx, dcap.Document(n.Kind), n.Of)
	}
	if n.Kind == vcek {
		return snp.Dir(dir).Certificate(ctx, n.report, n.key())
	}
	body, err = snp.Dir(dir).List(ctx, n.line(), n.Kind == vlekList)
	return body, nil, err
}

// Held is the source that gives what a cache keeps, in date or not: for whoever looks, and
// not for an appraisal.
type Held string

// Document reads the cache.
func (dir Held) Document(_ context.Context, n Need) (body, chain []byte, err error) {
	e := (&Cache{Dir: string(dir)}).read(n)
	if e == nil {
		return nil, nil, &dcap.FileError{Err: errors.New(n.name() + kept + " is not in the cache")}
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
			var source Source = Files(dir)
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
func StateOf(ctx context.Context, source Source, n Need, roots []*x509.Certificate, at time.Time) State {
	body, chain, err := source.Document(ctx, n)
	if err == nil {
		return look(n, body, chain, roots, at)
	}
	s := State{Document: n.Kind.String(), Of: n.Of, Word: Bad, Detail: err.Error()}
	if absent, is := errors.AsType[*dcap.FileError](err); is {
		s.Word, s.Detail = Missing, absent.Err.Error()
	} else if absent, is := errors.AsType[*snp.FileError](err); is {
		s.Word, s.Detail = Missing, absent.Unwrap().Error()
	}
	return s
}

// parseName says which document a file of a folder holds. False: none.
func parseName(file string) (Need, bool) {
	for kind := tcbInfo; kind <= vcek; kind++ {
		n := Need{Kind: kind}
		of, ok := strings.CutPrefix(file, n.name())
		of, _, _ = strings.Cut(of, ".")
		n.Of = safe(of)
		if kind == vcek && kind.of(of) {
			n.Of = of
		}
		if !ok || (file != n.name()+kept && file != n.file()) {
			continue
		}
		return n, kind.of(n.Of)
	}
	return Need{}, false
}
