package atls

import (
	"encoding/binary"
	"fmt"

	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/tree"
)

// kind is what a frame holds. Frames follow each other in both directions of the TLS
// session: one byte of kind, four of length, and as many bytes.
type kind byte

const (
	frameData      kind = 1 // bytes of the program, 1 to maxData
	frameChallenge kind = 2 // a nonce: evidence is wanted
	frameTree      kind = 3 // the place in the tree, JSON; the report follows at once
	frameReport    kind = 4 // how many pieces the logs have, the chain over them, and evidence without its logs
	frameLacking   kind = 5 // how many pieces the one who asked has, and the chain over them: the rest is wanted
	frameLogs      kind = 6 // the rest: where it begins, and each piece behind its length
)

const (
	headerSize = 5
	maxData    = 16384 - headerSize // a frame fits into a record of TLS
	maxTree    = 2048               // 12 digests are 1.2 KB
	maxReport  = 256 << 10
	maxLogs    = 24 << 20 // of the largest evidence, with the lengths of its pieces
)

// header reads a frame's header. What a frame may have is bounded here for all.
func header(b []byte) (k kind, size int, err error) {
	k = kind(b[0])
	n, least, most := int64(binary.BigEndian.Uint32(b[1:headerSize])), int64(1), int64(0)
	switch k {
	case frameData:
		most = maxData
	case frameChallenge:
		least, most = nonceSize, nonceSize
	case frameTree:
		most = maxTree
	case frameReport:
		least, most = standSize+2, maxReport
	case frameLacking:
		least, most = standSize, standSize
	case frameLogs:
		least, most = 4, maxLogs
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

// proof is the beginning of an answer to a challenge. The logs follow where they lack.
type proof struct {
	place  *rpc.Shared
	logs   stand
	report []byte
}

func (p proof) frames() ([]byte, error) {
	place, err := tree.WritePlace(p.place)
	if err != nil {
		return nil, err
	}
	report := append(p.logs.append(make([]byte, 0, standSize+len(p.report))), p.report...)
	if len(report) > maxReport {
		return nil, fmt.Errorf("this end's report has %d bytes; it must have at most %d", len(report), maxReport)
	}
	return frame(frame(nil, frameTree, place), frameReport, report), nil
}

// readReport reads a frame's body, whose bytes it keeps.
func readReport(place *rpc.Shared, body []byte) (p proof, err error) {
	p.place, p.report = place, body[standSize:]
	p.logs, err = readStand(body)
	return p, err
}
