package hashing

import (
	"context"
	"crypto/sha512"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"
	"golang.org/x/sync/semaphore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func file(t *testing.T, size int) *os.File {
	t.Helper()
	text := make([]byte, size)
	for i := range text {
		text[i] = byte(i * i)
	}
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, text, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestSum(t *testing.T) {
	turns := New()
	for _, size := range []int{0, 1, piece - 1, piece, piece + 1, 3*piece + 7} {
		f := file(t, size)
		text, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		got, err := turns.Sum(t.Context(), "a", int(f.Fd()), int64(size))
		if err != nil || got != sha512.Sum384(text) {
			t.Errorf("%d bytes: %x, %v", size, got, err)
		}
		if size == 0 {
			continue
		}
		if _, err := turns.Sum(t.Context(), "a", int(f.Fd()), int64(size)-1); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%d bytes, of at most %d: %v", size, size-1, err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := turns.Sum(ended, "a", int(file(t, 1).Fd()), 1); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
	if len(turns.byPayer) != 0 {
		t.Errorf("%d payers are left", len(turns.byPayer))
	}
}

// counter counts the pieces that it is given, in one list of all.
type counter struct {
	of string
	*order
}

type order struct {
	mu  sync.Mutex
	all []string
}

func (c counter) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, c.of)
	return len(b), nil
}
func (counter) Sum(b []byte) []byte { return b }
func (counter) Reset()              {}
func (counter) Size() int           { return 0 }
func (counter) BlockSize() int      { return 1 }

// However many files one payer has, another's piece comes next but one.
func TestPayersTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := &Turns{all: semaphore.NewWeighted(1), byPayer: make(map[string]*payer)}
		var got order
		if err := turns.all.Acquire(t.Context(), 1); err != nil { // until all wait
			t.Fatal(err)
		}
		var all sync.WaitGroup
		begin := func(of string, pieces int) {
			p := turns.enter(of)
			all.Go(func() {
				defer turns.leave(of, p)
				for range pieces {
					if err := turns.add(t.Context(), p, counter{of, &got}, nil); err != nil {
						t.Error(err)
					}
				}
			})
			synctest.Wait()
		}
		for range 8 {
			begin("large", 100)
		}
		begin("small", 3)
		turns.all.Release(1)
		all.Wait()
		last := 0
		for i, of := range got.all {
			if of == "small" {
				last = i
			}
		}
		if len(got.all) != 803 || last > 8 {
			t.Errorf("of %d pieces the last one of the small file came as number %d", len(got.all), last)
		}
	})
}
