package command

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// MaxEvidence bounds the bytes of an evidence bundle.
const MaxEvidence = 16 << 20

// MaxPolicy bounds the bytes that are read of a policy. A policy of one byte less may be
// the largest: package policy refuses larger ones, in its own words.
const MaxPolicy = 1<<20 + 1

// errLarge is in the error of a file that is too large.
var errLarge = errors.New("too large")

// ReadBounded reads a file, or stdin for "-", of at most limit bytes.
func ReadBounded(path string, limit int64) ([]byte, error) {
	f := os.Stdin
	if path != "-" {
		var err error
		if f, err = os.Open(path); err != nil {
			return nil, err
		}
		defer f.Close()
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err // which names the file
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s: %w: it must have at most %d bytes", path, errLarge, limit)
	}
	return b, nil
}

// ReadEvidence reads a bundle. A file that is too large for one is malformed.
func ReadEvidence(path string) ([]byte, error) {
	b, err := ReadBounded(path, MaxEvidence)
	if errors.Is(err, errLarge) {
		return nil, &Failure{Err: err, Code: Malformed, Hint: "evidence must have at most 16 MiB: is this the right file?"}
	}
	return b, err
}
