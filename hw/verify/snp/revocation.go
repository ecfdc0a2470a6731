package snp

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cima-project/cima/hw/verify/crl"
)

// maxList bounds a revocation list, in bytes. AMD's have 2 KiB.
const maxList = 1 << 20

// Source gives what AMD publishes of its processors. A source need not be trusted: all of it
// is signed.
type Source interface {
	// List gives a revocation list, DER.
	List(ctx context.Context, line Line, vlek bool) ([]byte, error)

	// Certificate gives the certificate of a key, DER, and what stands above it: PEM, or nothing
	// where AMD's own do. The report is the one that the key should have signed. The error is
	// an *UnknownKeyError where AMD knows no such key.
	Certificate(ctx context.Context, report *Report, key Key) (leaf, above []byte, err error)
}

// Dir is a folder of lists: amd-vcek-LINE.crl and amd-vlek-LINE.crl, the line in lower case; and
// of certificates: Key.FileName.
type Dir string

// FileError says that a folder lacks a file that is needed.
type FileError struct{ err error }

// Error names the file.
func (e *FileError) Error() string { return fmt.Sprintf("collateral of AMD's: %v", e.err) }

// Unwrap returns the cause.
func (e *FileError) Unwrap() error { return e.err }

// FileName is a list's name in a folder: amd-vcek-milan.crl.
func FileName(line Line, vlek bool) string {
	return fmt.Sprintf("amd-%s-%s.crl", strings.ToLower(keyName(vlek)), strings.ToLower(string(line)))
}

// List reads a file. Its errors are *FileError where the file can't be opened.
func (dir Dir) List(_ context.Context, line Line, vlek bool) ([]byte, error) {
	name := FileName(line, vlek)
	f, err := os.Open(filepath.Join(string(dir), name))
	if err != nil {
		return nil, &FileError{err}
	}
	defer f.Close()
	der, err := readAll(f, maxList)
	if err != nil {
		return nil, fmt.Errorf("revocation list %s: %w", name, err)
	}
	return der, nil
}

func readAll(f io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("it must have at most %d bytes", limit)
	}
	return b, err
}

// Revocations reads the list that the chain's root signed, which must be in date at the
// time at, and returns the certificates that are on it, with what the list says of itself.
// AMD lists intermediates: serial numbers of VCEKs are all zero, and no list names one. What
// a leaked VCEK signs is kept out by a minimum of the TCB.
func (c Chain) Revocations(der []byte, at time.Time) (revoked []string, f ListFacts, err error) {
	if at.IsZero() {
		at = time.Now()
	}
	list, err := crl.Read(der, c.Root)
	switch {
	case err != nil:
		return nil, f, err
	case at.Before(list.ThisUpdate) || at.After(list.NextUpdate):
		return nil, f, fmt.Errorf("the list is good from %s to %s, not at %s",
			list.ThisUpdate.Format(time.DateOnly), list.NextUpdate.Format(time.DateOnly), at.UTC().Format(time.DateOnly))
	}
	for _, entry := range list.RevokedCertificateEntries {
		for _, cert := range []*x509.Certificate{c.intermediate, c.Root} {
			if entry.SerialNumber.Cmp(cert.SerialNumber) == 0 {
				revoked = append(revoked, fmt.Sprintf("%s (serial %x) since %s", cert.Subject.CommonName, cert.SerialNumber, entry.RevocationTime.UTC().Format(time.DateOnly)))
			}
		}
	}
	return revoked, ListFacts{c.Line, list.ThisUpdate, list.NextUpdate, len(list.RevokedCertificateEntries)}, nil
}

// ListFacts are what a revocation list says of itself.
type ListFacts struct {
	Line          Line // of the root that signed it
	Issued, Until time.Time
	Revoked       int // entries
}

// DescribeList reads a list that one of roots signed, whatever the time.
func DescribeList(der []byte, roots []*x509.Certificate) (f ListFacts, err error) {
	failed := errors.New("no root is trusted")
	for _, root := range roots {
		line := Line(strings.TrimPrefix(root.Subject.CommonName, "ARK-"))
		if !slices.Contains(Lines(), line) {
			continue
		}
		list, err := crl.Read(der, root)
		if err == nil {
			return ListFacts{line, list.ThisUpdate, list.NextUpdate, len(list.RevokedCertificateEntries)}, nil
		}
		failed = err
	}
	if len(roots) > 1 {
		failed = fmt.Errorf("no trusted root signed the list: %w", failed)
	}
	return f, failed
}
