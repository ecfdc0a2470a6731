package rpc

import (
	"crypto/sha512"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"testing"

	"github.com/cima-project/cima/logs/canonical"
)

func leafData(n int) [64]byte {
	return sha512.Sum512(binary.BigEndian.AppendUint64(nil, uint64(n)))
}

// mth and auditPath are MTH(D[n]) and PATH(m, D[n]) as RFC 6962, section 2.1,
// defines them, without the code under test.
func mth(leaves [][64]byte) Digest {
	if len(leaves) == 1 {
		return sha512.Sum384(append([]byte{0}, leaves[0][:]...))
	}
	k := 1 << (bits.Len(uint(len(leaves)-1)) - 1) // the largest power of two below
	left, right := mth(leaves[:k]), mth(leaves[k:])
	return sha512.Sum384(slices.Concat([]byte{1}, left[:], right[:]))
}

func auditPath(m int, leaves [][64]byte) []Digest {
	if len(leaves) == 1 {
		return []Digest{}
	}
	k := 1 << (bits.Len(uint(len(leaves)-1)) - 1)
	if m < k {
		return append(auditPath(m, leaves[:k]), mth(leaves[k:]))
	}
	return append(auditPath(m-k, leaves[k:]), mth(leaves[:k]))
}

func testTree(t *testing.T, size int) ([][64]byte, *Tree) {
	t.Helper()
	leaves := make([][64]byte, size)
	for i := range leaves {
		leaves[i] = leafData(i)
	}
	tree, err := NewTree(leaves)
	if err != nil {
		t.Fatal(err)
	}
	return leaves, tree
}

// Trees and proofs are those of the RFC, for every leaf of every small tree and
// of some large ones.
func TestTreeIsTheRFCs(t *testing.T) {
	sizes := []int{100, 1023, 1025, MaxShared - 1, MaxShared}
	for n := range 70 {
		sizes = append(sizes, n+1)
	}
	for _, size := range sizes {
		leaves, tree := testTree(t, size)
		root := mth(leaves)
		step := max(1, size/16)
		for i := 0; i < size; i += step {
			p := tree.Shared(i)
			if p.Size != size || p.Index != i || !slices.Equal(p.Path, auditPath(i, leaves)) {
				t.Fatalf("leaf %d of %d: path of %d, the RFC's has %d", i, size, len(p.Path), len(auditPath(i, leaves)))
			}
			if len(p.Path) > maxSharedPath {
				t.Fatalf("leaf %d of %d: a path of %d is never read", i, size, len(p.Path))
			}
			if got, err := p.Root(leaves[i]); err != nil || got != root {
				t.Fatalf("leaf %d of %d: root %v, want %v: %v", i, size, got, root, err)
			}
			if got, err := p.ReportData(leaves[i]); err != nil || got != tree.ReportData() {
				t.Fatalf("leaf %d of %d: report data %x, the tree's is %x: %v", i, size, got, tree.ReportData(), err)
			}
		}
	}
}

// The preimage of REPORTDATA is as cima-evidence(7) defines it, in RFC 8785
// form.
func TestSharedReportData(t *testing.T) {
	leaves, tree := testTree(t, 3)
	form, err := canonical.Marshal(json.RawMessage(fmt.Appendf(nil,
		`{"size": 3, "root": %q, "profile": "https://github.com/cima-project/cima/shared/v1"}`, mth(leaves))))
	if err != nil {
		t.Fatal(err)
	}
	if want := sha512.Sum512(form); tree.ReportData() != want {
		t.Errorf("got %x, want %x", tree.ReportData(), want)
	}
}

// A proof is valid for one leaf, at one index, in a tree of one size, with one
// path.
func TestSharedProofOfAnother(t *testing.T) {
	for _, size := range []int{1, 2, 3, 5, 8, 13} {
		leaves, tree := testTree(t, size)
		want := tree.ReportData()
		for i, leaf := range leaves {
			taken := func(what string, data [64]byte, s Shared) {
				t.Helper()
				if got, err := s.ReportData(data); err == nil && got == want {
					t.Errorf("leaf %d of %d: %s is accepted", i, size, what)
				}
			}
			good := *tree.Shared(i)
			for otherSize := -1; otherSize < 20; otherSize++ {
				for index := -1; index < 20; index++ {
					if otherSize != size || index != i {
						taken(fmt.Sprintf("as leaf %d of %d", index, otherSize), leaf, Shared{otherSize, index, good.Path})
					}
				}
			}
			for bit := range 512 {
				other := leaf
				other[bit/8] ^= 1 << (bit % 8)
				taken("another leaf", other, good)
			}
			for at := range good.Path {
				for bit := range 384 {
					path := slices.Clone(good.Path)
					path[at][bit/8] ^= 1 << (bit % 8)
					taken("a flipped bit", leaf, Shared{size, i, path})
				}
				taken("a path cut", leaf, Shared{size, i, slices.Delete(slices.Clone(good.Path), at, at+1)})
			}
			taken("a longer path", leaf, Shared{size, i, append(slices.Clone(good.Path), Digest{})})
			if at := len(good.Path); at > 1 {
				path := slices.Clone(good.Path)
				slices.Reverse(path)
				taken("a path backwards", leaf, Shared{size, i, path})
			}
		}
	}
}

// A node of a tree can't pass as a leaf of a smaller tree, even if a forger
// chooses the leaf's bytes: a leaf has 64 bytes, and another prefix.
func TestNodeIsNoLeaf(t *testing.T) {
	leaves, tree := testTree(t, 4)
	node := tree.levels[1][0]
	smaller := Shared{Size: 2, Index: 0, Path: []Digest{tree.levels[1][1]}}
	children := slices.Concat(tree.levels[0][0][:], tree.levels[0][1][:])
	for name, data := range map[string][64]byte{
		"the node":         [64]byte(append(node[:], make([]byte, 16)...)),
		"its children":     [64]byte(children[:64]),
		"its first leaf":   leaves[0],
		"its second leaf":  leaves[1],
		"hash of the node": sha512.Sum512(node[:]),
	} {
		if root, err := smaller.Root(data); err != nil || root == mth(leaves) {
			t.Errorf("%s passes for a leaf: %v", name, err)
		}
	}
	// the forgery needs a leaf whose hash is the node's
	if got := nodeHash(node, smaller.Path[0]); got != mth(leaves) {
		t.Fatal("the test's own path is wrong")
	}
}

func TestTreeBounds(t *testing.T) {
	for _, n := range []int{0, MaxShared + 1} {
		if _, err := NewTree(make([][64]byte, n)); err == nil {
			t.Errorf("a tree of %d", n)
		}
	}
}

func TestSharedMalformed(t *testing.T) {
	_, good := testEvidence(t)
	path := `"path":["` + Digest{1}.String()
	for name, change := range map[string][2]string{
		"null":               {`"shared":{"size":5,`, `"shared":null,"x":{`},
		"size 0":             {`"size":5`, `"size":0`},
		"size beyond":        {`"size":5`, `"size":4097`},
		"size missing":       {`"size":5,`, ``},
		"size as text":       {`"size":5`, `"size":"5"`},
		"index missing":      {`"index":2,`, ``},
		"index below":        {`"index":2`, `"index":-1`},
		"index beyond":       {`"index":2`, `"index":4096`},
		"path missing":       {`"path":`, `"paths":`},
		"path no array":      {path, `"path":"a","x":["` + Digest{1}.String()},
		"path of numbers":    {path, `"path":[1,"` + Digest{1}.String()},
		"path in upper case": {Digest{0xAB, 2}.String(), strings.ToUpper(Digest{0xAB, 2}.String())},
		"path of short":      {path, `"path":["` + Digest{1}.String()[2:]},
		"path too long":      {path, `"path":[` + strings.Repeat(zeroDigest+",", 10) + `"` + Digest{1}.String()},
		"a root":             {`"size":5`, `"root":` + zeroDigest + `,"size":5`},
		"case variant":       {`"size":5`, `"Size":5`},
		"twice":              {`"size":5`, `"size":5,"size":5`},
	} {
		bad := strings.Replace(string(good), change[0], change[1], 1)
		if bad == string(good) {
			t.Fatalf("%s: nothing changed", name)
		}
		if _, _, err := DecodeEvidence([]byte(bad)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestSharedParam(t *testing.T) {
	for text, want := range map[string]bool{
		`{"nonce":"AAECAwQFBgc="}`:                true,
		`{"nonce":"AAECAwQFBgc=","shared":true}`:  true,
		`{"nonce":"AAECAwQFBgc=","shared":false}`: true,
		`{"nonce":"AAECAwQFBgc=","shared":null}`:  false,
		`{"nonce":"AAECAwQFBgc=","shared":1}`:     false,
		`{"nonce":"AAECAwQFBgc=","Shared":true}`:  false,
	} {
		var e EvidenceParams
		var r CCReportParams
		for _, err := range []error{DecodeParams([]byte(text), &e), DecodeParams([]byte(text), &r)} {
			if (err == nil) != want {
				t.Errorf("%s: %v", text, err)
			}
		}
		if yes := strings.Contains(text, "true"); want && (e.Shared != yes || r.Shared != yes) {
			t.Errorf("%s: read as %v, %v", text, e.Shared, r.Shared)
		}
	}
}

func FuzzSharedRoot(f *testing.F) {
	f.Add(5, 2, make([]byte, 96))
	f.Add(4096, 4095, make([]byte, 12*48))
	f.Add(1, 0, []byte{})
	f.Fuzz(func(t *testing.T, size, index int, path []byte) {
		s := Shared{Size: size, Index: index}
		for ; len(path) >= 48 && len(s.Path) < 20; path = path[48:] {
			s.Path = append(s.Path, Digest(path))
		}
		_, err := s.Root(leafData(0))
		if err != nil {
			return
		}
		leaves := make([][64]byte, size)
		if want := len(auditPath(index, leaves)); len(s.Path) != want {
			t.Fatalf("leaf %d of %d: a path of %d is accepted, the RFC's has %d", index, size, len(s.Path), want)
		}
	})
}
