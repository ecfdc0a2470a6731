package rpc

import (
	"crypto/sha512"
	"fmt"
)

// SharedProfile names the rules of a shared quote. It is in the preimage of REPORTDATA,
// so that a root can't be taken for claims, nor claims for a root.
const SharedProfile = "https://github.com/cima-project/cima/shared/v1"

// MaxShared is how many claims can share one quote.
const MaxShared = 4096

// maxSharedPath is the depth of a tree of MaxShared leaves.
const maxSharedPath = 12

// Shared is the place of claims among those that share a quote: a leaf of a Merkle tree
// (RFC 6962, section 2.1, with SHA-384) and its audit path. The root is not here: it is
// computed from the claims and these.
type Shared struct {
	Size  int      `json:"size" within:"1..4096"`  // leaves, 1 to MaxShared
	Index int      `json:"index" within:"0..4095"` // of this leaf, from 0
	Path  []Digest `json:"path" within:"0..12"`    // the siblings of the nodes from the leaf up to the root
}

// Root returns the root of the tree that has this leaf in this place. data is
// SHA-512(JCS(claims)), which is REPORTDATA if a quote is not shared.
func (s *Shared) Root(data [64]byte) (Digest, error) {
	if s.Size < 1 || s.Size > MaxShared || s.Index < 0 || s.Index >= s.Size {
		return Digest{}, fmt.Errorf("there is no leaf %d in a tree of %d; trees have 1 to %d leaves", s.Index, s.Size, MaxShared)
	}
	at, rest := leafHash(data), s.Path
	for i, width := s.Index, s.Size; width > 1; i, width = i/2, (width+1)/2 {
		if i^1 == width {
			continue // the last of an odd number goes up as it is
		}
		if len(rest) == 0 {
			return Digest{}, fmt.Errorf("a path of %d digests doesn't lead from leaf %d to the root of a tree of %d: it is too short", len(s.Path), s.Index, s.Size)
		}
		if i%2 == 0 {
			at = nodeHash(at, rest[0])
		} else {
			at = nodeHash(rest[0], at)
		}
		rest = rest[1:]
	}
	if len(rest) > 0 {
		return Digest{}, fmt.Errorf("a path of %d digests leads beyond the root of a tree of %d from leaf %d: it is too long", len(s.Path), s.Size, s.Index)
	}
	return at, nil
}

// ReportData returns the REPORTDATA of a quote that these claims share.
func (s *Shared) ReportData(data [64]byte) ([64]byte, error) {
	root, err := s.Root(data)
	if err != nil {
		return [64]byte{}, err
	}
	return sharedReportData(root, s.Size), nil
}

// sharedReportData is SHA-512 over the RFC 8785 form of {profile, root, size}.
func sharedReportData(root Digest, size int) [64]byte {
	return sha512.Sum512(fmt.Appendf(nil, `{"profile":%q,"root":%q,"size":%d}`, SharedProfile, root, size))
}

// Tree is the Merkle tree over all claims that share a quote.
type Tree struct {
	levels [][]Digest // leaves first, the root last
}

// NewTree makes the tree of 1 to MaxShared leaves. Each leaf is SHA-512(JCS(claims)).
func NewTree(leaves [][64]byte) (*Tree, error) {
	if len(leaves) < 1 || len(leaves) > MaxShared {
		return nil, fmt.Errorf("a tree must have 1 to %d leaves, not %d", MaxShared, len(leaves))
	}
	level := make([]Digest, len(leaves))
	for i, data := range leaves {
		level[i] = leafHash(data)
	}
	t := &Tree{levels: [][]Digest{level}}
	for len(level) > 1 {
		up := make([]Digest, 0, (len(level)+1)/2)
		for i := 0; i+1 < len(level); i += 2 {
			up = append(up, nodeHash(level[i], level[i+1]))
		}
		if len(level)%2 == 1 {
			up = append(up, level[len(level)-1])
		}
		t.levels, level = append(t.levels, up), up
	}
	return t, nil
}

// ReportData returns the REPORTDATA of the quote of all leaves.
func (t *Tree) ReportData() [64]byte {
	return sharedReportData(t.levels[len(t.levels)-1][0], len(t.levels[0]))
}

// Shared returns the proof for the leaf at index.
func (t *Tree) Shared(index int) *Shared {
	s := &Shared{Size: len(t.levels[0]), Index: index, Path: []Digest{}}
	for i, level := range t.levels {
		if sibling := index>>i ^ 1; sibling < len(level) {
			s.Path = append(s.Path, level[sibling])
		}
	}
	return s
}

// leafHash and nodeHash begin with different bytes, so that a node can't be taken for a
// leaf (RFC 6962, section 2.1).
func leafHash(data [64]byte) Digest { return sha512.Sum384(append([]byte{0}, data[:]...)) }

func nodeHash(left, right Digest) Digest {
	return sha512.Sum384(append(append([]byte{1}, left[:]...), right[:]...))
}
