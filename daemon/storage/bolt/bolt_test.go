package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
)

// database is one that the library writes, and holds its lock on.
func database(t testing.TB, pageSize int) (*bbolt.DB, *os.File) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "meta.db")
	db, err := bbolt.Open(name, 0o600, &bbolt.Options{PageSize: pageSize, NoSync: true, NoFreelistSync: true})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close(); db.Close() })
	return db, f
}

// put writes a value: the path's last part is its name, those before are buckets.
func put(tx *bbolt.Tx, value string, path ...string) error {
	b, err := tx.CreateBucketIfNotExists([]byte(path[0]))
	for _, name := range path[1 : len(path)-1] {
		if err == nil {
			b, err = b.CreateBucketIfNotExists([]byte(name))
		}
	}
	if err != nil {
		return err
	}
	return b.Put([]byte(path[len(path)-1]), []byte(value))
}

func get(root *Bucket, path ...string) string {
	for _, name := range path[:len(path)-1] {
		root = root.Bucket(name)
	}
	return root.Get(path[len(path)-1])
}

// All that the library wrote is found while it holds its lock, in buckets of every size:
// within another's page, on one page, and below branches; with values of many pages.
func TestViewFindsWhatTheLibraryWrote(t *testing.T) {
	for _, pageSize := range []int{1024, 4096, 16384} {
		t.Run(fmt.Sprint(pageSize), func(t *testing.T) {
			db, f := database(t, pageSize)
			want := map[string]string{}
			random := rand.New(rand.NewPCG(1, uint64(pageSize)))
			for round := range 20 {
				err := db.Update(func(tx *bbolt.Tx) error {
					for range 100 {
						bucket, name := fmt.Sprint("b", random.IntN(1+round%5)), fmt.Sprint("k", random.IntN(4000))
						value := strings.Repeat(name, random.IntN(1+[]int{3, 200, 9000}[random.IntN(3)]/len(name)))
						want[bucket+"/"+name] = value
						if err := put(tx, value, "v1", bucket, "deep", name); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			for at, value := range want {
				bucket, name, _ := strings.Cut(at, "/")
				var got string
				if err := View(f, func(root *Bucket) { got = get(root, "v1", bucket, "deep", name) }); err != nil || got != value {
					t.Fatalf("%s: %d bytes, want %d: %v", at, len(got), len(value), err)
				}
			}
			err := View(f, func(root *Bucket) {
				for _, path := range [][]string{{"v1", "b0", "deep", "no"}, {"v1", "b0", "deep"}, {"v1"}, {"no", "x"}, {"v1", "b0", "deep", "k1", "x"}, {"v1", "", "x"}} {
					if got := get(root, path...); got != "" {
						t.Errorf("%q: %q", path, got)
					}
				}
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// busyFile commits while it is read, before the read that `before` counts down to.
type busyFile struct {
	*os.File
	before int
	commit func()
}

func (b *busyFile) ReadAt(p []byte, at int64) (int, error) {
	if b.before--; b.before == 0 {
		b.commit()
	}
	return b.File.ReadAt(p, at)
}

// Two values that are written together are read together, whenever somebody commits: the
// transactions in between reuse pages that were being read.
func TestViewReadsOneTransaction(t *testing.T) {
	db, f := database(t, 1024)
	n := 0
	commit := func() {
		n++
		err := db.Update(func(tx *bbolt.Tx) error {
			for i := range 300 {
				if err := put(tx, fmt.Sprint(n), "v1", fmt.Sprint("bucket", i%3), fmt.Sprint("key", i)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	commit()
	again := 0
	for before := range 40 {
		var first, last string
		calls := 0
		err := View(&busyFile{f, before, func() { commit(); commit(); commit() }}, func(root *Bucket) {
			calls++
			first = get(root, "v1", "bucket0", "key0")
			last = get(root, "v1", "bucket2", "key299")
		})
		if err != nil || first != last || first != fmt.Sprint(n) {
			t.Errorf("commits before read %d: %q and %q of %d: %v", before, first, last, n, err)
		}
		again += calls - 1
	}
	if again == 0 {
		t.Error("no commit came in between")
	}
	always := &busyFile{f, -1, nil}
	if err := View(always, func(*Bucket) { commit() }); !errors.Is(err, errBusy) {
		t.Errorf("written all the time: %v", err)
	}
}

// A file that isn't sound gives an error or nothing, and never more work than its bounds.
func TestBroken(t *testing.T) {
	db, f := database(t, 1024)
	err := db.Update(func(tx *bbolt.Tx) error {
		for i := range 500 {
			if err := put(tx, "value", "v1", fmt.Sprint("key", i)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	root, pages := uint64(0), len(raw)/1024
	for _, at := range []int{0, 1024} {
		if m := raw[at+pageHeader:]; u64(m[48:]) >= root {
			root = u64(m[16:])
		}
	}
	leaf := func(flags uint16, count uint16, overflow uint32) func(b []byte) {
		return func(b []byte) {
			p := b[root*1024:]
			binary.NativeEndian.PutUint16(p[8:], flags)
			binary.NativeEndian.PutUint16(p[10:], count)
			binary.NativeEndian.PutUint32(p[12:], overflow)
		}
	}
	for name, c := range map[string]struct {
		change func(b []byte)
		err    string
	}{
		"sound":           {func([]byte) {}, ""},
		"no magic":        {func(b []byte) { b[16], b[1024+16] = 0, 0 }, "no bolt database"},
		"another version": {func(b []byte) { eachMeta(b, func(m []byte) { binary.NativeEndian.PutUint32(m[4:], 3) }) }, "no bolt database"},
		"no checksum":     {func(b []byte) { b[16+56]++; b[1024+16+56]++ }, "no bolt database"},
		"page size 0":     {func(b []byte) { eachMeta(b, func(m []byte) { binary.NativeEndian.PutUint32(m[8:], 0) }) }, "no bolt database"},
		"page size 1 GiB": {func(b []byte) { eachMeta(b, func(m []byte) { binary.NativeEndian.PutUint32(m[8:], 1<<30) }) }, "no bolt database"},
		"root is a meta":  {func(b []byte) { eachMeta(b, func(m []byte) { binary.NativeEndian.PutUint64(m[16:], 1) }) }, "is not one of"},
		"root behind":     {func(b []byte) { eachMeta(b, func(m []byte) { binary.NativeEndian.PutUint64(m[16:], uint64(pages)+1) }) }, "is not one of"},
		"more pages than": {func(b []byte) {
			eachMeta(b, func(m []byte) {
				binary.NativeEndian.PutUint64(m[16:], 1<<39)
				binary.NativeEndian.PutUint64(m[40:], 1<<62)
			})
		}, "EOF"},
		"another kind":       {leaf(isLeaf|isBranch, 1, 0), "flags"},
		"too many elements":  {leaf(isLeaf, 65535, 0), "elements"},
		"branch of nothing":  {leaf(isBranch, 0, 0), "without elements"},
		"flows over the end": {leaf(isLeaf, 1, 8000), "EOF"},
		"flows over 4 TiB":   {leaf(isLeaf, 1, 1<<32-1), "more than"},
		"key behind its page": {func(b []byte) {
			binary.NativeEndian.PutUint32(b[root*1024+pageHeader+4:], 1<<31)
		}, "ends behind"},
		"key and value overflow": {func(b []byte) {
			binary.NativeEndian.PutUint32(b[root*1024+pageHeader+12:], 1<<32-1)
		}, "ends behind"},
		"branch to itself": {func(b []byte) {
			leaf(isBranch, 1, 0)(b)
			binary.NativeEndian.PutUint64(b[root*1024+pageHeader+8:], root)
		}, "deeper than"},
	} {
		t.Run(name, func(t *testing.T) {
			b := bytes.Clone(raw)
			c.change(b)
			got := ""
			err := View(bytes.NewReader(b), func(root *Bucket) { got = get(root, "v1", "key7") })
			if c.err == "" && (err != nil || got != "value") || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("%q, %v, want %q", got, err, c.err)
			}
		})
	}
}

// eachMeta changes both meta pages, and makes their checksums right.
func eachMeta(b []byte, change func(m []byte)) {
	for _, at := range []int{0, 1024} {
		m := b[at+pageHeader:][:metaSize]
		change(m)
		sum := fnv.New64a()
		sum.Write(m[:56])
		binary.NativeEndian.PutUint64(m[56:], sum.Sum64())
	}
}

// counted counts what is read of a file.
type counted struct {
	*bytes.Reader
	bytes int
}

func (c *counted) ReadAt(p []byte, at int64) (int, error) {
	c.bytes += len(p)
	return c.Reader.ReadAt(p, at)
}

func FuzzView(f *testing.F) {
	db, file := database(f, 1024)
	err := db.Update(func(tx *bbolt.Tx) error {
		for i := range 60 {
			if err := put(tx, strings.Repeat("v", i*40), "v1", fmt.Sprint("b", i%2), fmt.Sprint("k", i)); err != nil {
				return err
			}
		}
		return nil
	})
	raw, err2 := os.ReadFile(file.Name())
	if err := errors.Join(err, err2); err != nil {
		f.Fatal(err)
	}
	f.Add(raw, uint16(0), byte(0))
	f.Add(raw, uint16(5000), byte(0xFF))
	f.Fuzz(func(t *testing.T, b []byte, at uint16, xor byte) {
		b = bytes.Clone(b)
		if int(at) < len(b) {
			b[at] ^= xor
		}
		c := &counted{Reader: bytes.NewReader(b)}
		err := View(c, func(root *Bucket) {
			for i := range 20 {
				get(root, "v1", fmt.Sprint("b", i%3), fmt.Sprint("k", i))
			}
		})
		if c.bytes > 4*maxBytes {
			t.Errorf("%d bytes of %d were read: %v", c.bytes, len(b), err)
		}
	})
}
