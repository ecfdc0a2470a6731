package dcap

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// Document is one of the documents on a platform that Intel's Provisioning
// Certification Service gives (PCS API v4).
type Document int

// All documents on one platform.
const (
	TCBInfo    Document = iota // of one kind of platform (FMSPC), JSON
	QEIdentity                 // of the TD quoting enclave, JSON
	PCKCRL                     // of the CA that issued the platform's certificate, DER
	RootCRL                    // DER; it has no issuer chain of its own
)

// A Source gives documents. For TCBInfo, of is the FMSPC (12 lower-case hex
// digits), for PCKCRL "platform" or "processor", else "". The chain is that of
// the document's issuer: PEM, signer first; RootCRL has none. A source need not
// be trusted, because the documents are signed.
type Source interface {
	Get(ctx context.Context, doc Document, of string) (body, chain []byte, err error)
}

// maxDocument bounds a document, and a chain, in bytes.
const maxDocument = 4 << 20

// Dir is a folder of documents (cima-evidence(7), COLLATERAL):
// tcb-FMSPC.json, qe-identity.json, pck-crl-platform.der or
// pck-crl-processor.der, and root-crl.der. The issuer chain of a document is in
// FILE.chain next to it, as PEM or percent-encoded as in the service's headers.
type Dir string

// FileName is a document's name in a folder.
func FileName(doc Document, of string) string {
	switch doc {
	case TCBInfo:
		return "tcb-" + of + ".json"
	case QEIdentity:
		return "qe-identity.json"
	case PCKCRL:
		return "pck-crl-" + of + ".der"
	}
	return "root-crl.der"
}

// Get reads a document from its file. Its errors are *FileError where the file
// can't be opened.
func (dir Dir) Get(_ context.Context, doc Document, of string) (body, chain []byte, err error) {
	name := FileName(doc, of)
	if body, err = dir.read(name); err != nil || doc == RootCRL {
		return body, nil, err
	}
	chain, err = dir.read(name + ".chain")
	if err == nil && !strings.HasPrefix(string(chain), "-----BEGIN CERTIFICATE") {
		chain, err = unescapeChain(strings.TrimSpace(string(chain)))
	}
	return body, chain, err
}

func (dir Dir) read(name string) ([]byte, error) {
	f, err := os.Open(filepath.Join(string(dir), name))
	if err != nil {
		return nil, &FileError{err}
	}
	defer f.Close()
	return bounded(name, f)
}

// FileError says that a folder lacks a document that is needed.
type FileError struct{ Err error }

// Error names the file.
func (e *FileError) Error() string { return fmt.Sprintf("collateral: %v", e.Err) }

// Unwrap returns the cause.
func (e *FileError) Unwrap() error { return e.Err }

func bounded(name string, r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("collateral: %s: %w", name, err)
	}
	if len(b) > maxDocument {
		return nil, fmt.Errorf("collateral: %s has more than %d bytes", name, maxDocument)
	}
	return b, nil
}

func unescapeChain(text string) ([]byte, error) {
	plain, err := url.QueryUnescape(text)
	if err != nil {
		return nil, fmt.Errorf("collateral: issuer chain: %w", err)
	}
	return []byte(plain), nil
}
