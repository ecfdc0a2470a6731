package snp

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// maxChain bounds what stands above a key, in bytes of PEM. AMD's has 4 KiB.
const maxChain = 16 << 10

// readChain reads what stands above a key, as AMD's service gives it: PEM of the intermediate
// and the root. Nothing is nothing: then AMD's own count.
func readChain(text []byte) (chain [][]byte, err error) {
	if len(text) > maxChain {
		return nil, fmt.Errorf("the certificates above the key must have at most %d bytes, not %d", maxChain, len(text))
	}
	for rest := text; len(bytes.TrimSpace(rest)) > 0; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" || len(chain) == maxCertificates-1 {
			return nil, fmt.Errorf("the certificates above the key must be PEM of at most %d", maxCertificates-1)
		}
		chain = append(chain, block.Bytes)
	}
	return chain, nil
}

// LeafFacts are what a certificate says of itself, and when all are good that came with it.
type LeafFacts struct {
	Key           Key
	Issued, Until time.Time
}

// DescribeLeaf reads a VCEK for which one of roots vouches through what stands above it (PEM;
// nothing: through AMD's own), whatever the certificates' own time.
func DescribeLeaf(der, above []byte, roots []*x509.Certificate, at time.Time) (f LeafFacts, err error) {
	chain, err := readChain(above)
	if err != nil {
		return f, err
	}
	a := &Attestation{Report: &Report{}}
	if err := a.take(append([][]byte{der}, chain...)); err != nil {
		return f, err
	}
	l := a.Leaf
	f = LeafFacts{Key{l.line, hex.EncodeToString(l.hardwareID), l.tcb}, l.cert.NotBefore, l.cert.NotAfter}
	for _, c := range []*x509.Certificate{a.intermediate, a.root} {
		if c != nil && c.NotBefore.After(f.Issued) {
			f.Issued = c.NotBefore
		}
		if c != nil && c.NotAfter.Before(f.Until) {
			f.Until = c.NotAfter
		}
	}
	switch {
	case at.Before(f.Issued):
		at = f.Issued
	case at.After(f.Until):
		at = f.Until
	}
	_, err = a.chain(roots, at)
	return f, err
}

// SignedBy reports whether the key of a certificate signed the report.
func (r *Report) SignedBy(der []byte) bool {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return false
	}
	l, err := readLeaf(c)
	return err == nil && r.signedBy(l.key)
}

// BuiltIn reports whether the certificates that are built in vouch for a key's: then nobody need
// be asked for those above it.
func BuiltIn(leaf []byte) bool {
	c, err := x509.ParseCertificate(leaf)
	if err != nil {
		return false
	}
	l, err := readLeaf(c)
	return err == nil && !l.VLEK && c.CheckSignatureFrom(embedded(l.line, "ask")) == nil
}

// FileName is a certificate's name in a folder: vcek-milan-CHIP-TCB.der. What stands above it has
// the same name and ".chain".
func (k Key) FileName() string { return "vcek-" + k.String() + ".der" }

// Certificate reads a certificate's file, and the one with what stands above it, if there is one. Its errors
// are *FileError where there is no certificate.
func (dir Dir) Certificate(_ context.Context, _ *Report, k Key) (leaf, above []byte, err error) {
	path := filepath.Join(string(dir), k.FileName())
	if leaf, err = readBounded(path, maxCertificate); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = &FileError{err}
		}
		return nil, nil, err
	}
	if above, err = readBounded(path+".chain", maxChain); errors.Is(err, fs.ErrNotExist) {
		above, err = nil, nil
	}
	return leaf, above, err
}

func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := readAll(f, limit)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}
