package atls

import (
	"encoding/binary"
	json "encoding/json/v2"
	"fmt"

	"github.com/cima-project/cima/logs/canonical"
	"github.com/cima-project/cima/rpc"
)

// kind is what a frame holds. Frames follow each other in both directions of the TLS
// session: one byte of kind, four of length, and as many bytes.
type kind byte

const (
	frameData      kind = 1 // bytes of the program, 1 to maxData
	frameChallenge kind = 2 // a nonce: evidence is wanted
	frameTree      kind = 3 // the place in the tree, JSON; a frame of evidence follows at once
	frameEvidence  kind = 4
)

const (
	headerSize = 5
	maxData    = 16384 - headerSize // a frame fits into a record of TLS
	maxTree    = 2048               // 12 digests are 1.2 KB
)

// header reads a frame's header. What a frame may have is bounded here for all.
func header(b []byte) (k kind, size int, err error) {
	k, n := kind(b[0]), binary.BigEndian.Uint32(b[1:headerSize])
	least, most := uint32(1), uint32(0)
	switch k {
	case frameData:
		most = maxData
	case frameChallenge:
		least, most = nonceSize, nonceSize
	case frameTree:
		most = maxTree
	case frameEvidence:
		most = rpc.MaxEvidence
	default:
		return 0, 0, fmt.Errorf("the other end sent a frame of the kind %d, which %s doesn't have", k, Protocol)
	}
	if n < least || n > most {
		return 0, 0, fmt.Errorf("the other end sent a frame of the kind %d with %d bytes; it must have %d to %d", k, n, least, most)
	}
	return k, int(n), nil
}

func frame(to []byte, k kind, body []byte) []byte {
	to = binary.BigEndian.AppendUint32(append(to, byte(k)), uint32(len(body)))
	return append(to, body...)
}

// proof is an answer to a challenge.
type proof struct {
	tree     *rpc.Shared
	evidence []byte
}

func (p proof) frames() ([]byte, error) {
	tree, err := json.Marshal(p.tree)
	if err != nil {
		return nil, err
	}
	to := make([]byte, 0, 2*headerSize+len(tree)+len(p.evidence))
	return frame(frame(to, frameTree, tree), frameEvidence, p.evidence), nil
}

func readTree(b []byte) (*rpc.Shared, error) {
	tree := new(rpc.Shared)
	if err := canonical.Unmarshal(b, tree); err != nil {
		return nil, fmt.Errorf("the other end's place in the tree: %w", err)
	}
	return tree, nil
}
