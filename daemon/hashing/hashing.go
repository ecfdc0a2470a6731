// Package hashing answers: how do files that are measured share the processors?
//
// Whoever chooses a file chooses how long it takes to hash. So it is hashed piece by piece:
// each payer has one turn at a time, payers take turns, and two of the goroutines that may
// run at once are left to the rest of the daemon. A file of a few pieces waits for one piece
// of each other payer, however large their files are.
package hashing

import (
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"runtime"
	"sync"

	"golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"
)

// ErrTooLarge says that a file is larger than it may be.
var ErrTooLarge = errors.New("the file is too large")

// Turns are the turns of all payers.
type Turns struct {
	all *semaphore.Weighted

	mu      sync.Mutex
	byPayer map[string]*payer
}

// payer is somebody whose files are being hashed.
type payer struct {
	turn  *semaphore.Weighted // of 1
	files int
}

// New returns turns for all goroutines that may run at once but two; for one at least.
func New() *Turns {
	return &Turns{
		all:     semaphore.NewWeighted(int64(max(1, runtime.GOMAXPROCS(0)-2))),
		byPayer: make(map[string]*payer),
	}
}

// piece is what is hashed in one turn: half a millisecond. The kernel reads ahead 128 KiB.
const piece = 256 << 10

// reader is the memory that one file takes.
type reader struct {
	hash hash.Hash
	buf  [piece]byte
}

var readers = sync.Pool{New: func() any { return &reader{hash: sha512.New384()} }}

// Sum returns the SHA-384 of a file of at most so many bytes. Reading takes no turn: it may
// wait for a disk, or for ever. An error may be that ctx ended.
func (t *Turns) Sum(ctx context.Context, of string, fd int, most int64) (digest [sha512.Size384]byte, err error) {
	p := t.enter(of)
	defer t.leave(of, p)
	r := readers.Get().(*reader)
	defer readers.Put(r)
	r.hash.Reset()
	for at := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return digest, err
		}
		n, err := unix.Pread(fd, r.buf[:], at)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return digest, fmt.Errorf("read: %w", err)
		case n == 0:
			r.hash.Sum(digest[:0])
			return digest, nil
		}
		if at += int64(n); at > most {
			return digest, fmt.Errorf("%w: must have at most %d bytes", ErrTooLarge, most)
		}
		if err := t.add(ctx, p, r.hash, r.buf[:n]); err != nil {
			return digest, err
		}
	}
}

// add hashes a piece in the payer's turn.
func (t *Turns) add(ctx context.Context, p *payer, to hash.Hash, text []byte) error {
	if err := p.turn.Acquire(ctx, 1); err != nil {
		return err
	}
	defer p.turn.Release(1)
	if err := t.all.Acquire(ctx, 1); err != nil {
		return err
	}
	defer t.all.Release(1)
	to.Write(text)
	return nil
}

func (t *Turns) enter(of string) *payer {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.byPayer[of]
	if p == nil {
		p = &payer{turn: semaphore.NewWeighted(1)}
		t.byPayer[of] = p
	}
	p.files++
	return p
}

func (t *Turns) leave(of string, p *payer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p.files--; p.files == 0 {
		delete(t.byPayer, of)
	}
}
