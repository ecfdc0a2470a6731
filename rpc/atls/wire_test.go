package atls

import (
	"bytes"
	"crypto/tls"
	"net"
	"strings"
	"testing"

	"github.com/cima-project/cima/rpc"
)

func TestFramesHaveBounds(t *testing.T) {
	for k, bounds := range map[kind][2]int{
		frameData: {1, maxData}, frameChallenge: {32, 32}, frameTree: {1, maxTree}, frameEvidence: {1, rpc.MaxEvidence},
	} {
		for n, good := range map[int]bool{bounds[0] - 1: false, bounds[0]: true, bounds[1]: true, bounds[1] + 1: false} {
			h := frame(nil, k, nil)
			h[1], h[2], h[3], h[4] = byte(n>>24), byte(n>>16), byte(n>>8), byte(n)
			if _, _, err := header(h); (err == nil) != good {
				t.Errorf("kind %d with %d bytes: %v", k, n, err)
			}
		}
	}
}

// The largest tree's place fits into its frame.
func TestTreeFits(t *testing.T) {
	leaves := make([][64]byte, rpc.MaxShared)
	tree, err := rpc.NewTree(leaves)
	if err != nil {
		t.Fatal(err)
	}
	p := proof{tree: tree.Shared(rpc.MaxShared - 1), evidence: []byte("{}")}
	b, err := p.frames()
	if err != nil {
		t.Fatal(err)
	}
	k, n, err := header(b)
	if err != nil || k != frameTree {
		t.Fatal(k, err)
	}
	back, err := readTree(b[headerSize : headerSize+n])
	if err != nil || back.Size != rpc.MaxShared {
		t.Errorf("%v, %v", back, err)
	}
}

func FuzzFrame(f *testing.F) {
	f.Add(frame(nil, frameChallenge, make([]byte, 32)))
	f.Add(frame(frame(nil, frameTree, []byte(`{"size":1,"index":0,"path":[]}`)), frameEvidence, []byte("{}")))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, body, err := readFrame(bytes.NewReader(b))
		if err != nil || k != frameTree {
			return
		}
		tree, err := readTree(body)
		if err != nil {
			return
		}
		if root, err := tree.Root([64]byte{}); err == nil {
			nonce, data := ofTree(root, tree.Size)
			if len(nonce) != nonceSize || len(data) > rpc.MaxUserData {
				t.Errorf("%d and %d bytes", len(nonce), len(data))
			}
		}
	})
}

// Frames that don't belong where they come end the session at their header: nobody reads
// on, and nobody is judged by evidence without its place in the tree.
func TestOrderOfFrames(t *testing.T) {
	for want, frames := range map[string][]byte{
		"must follow each other":         frame(nil, frameEvidence, []byte("{}")),
		"must follow each  other":        frame(frame(nil, frameTree, []byte(`{"size":1,"index":0,"path":[]}`)), frameData, []byte("x")),
		"evidence that nobody asked for": frame(nil, frameTree, []byte("{}"))[:headerSize],
	} {
		near, far := net.Pipe()
		one, err := ownCertificate()
		if err != nil {
			t.Fatal(err)
		}
		a := tls.Server(far, settings(&tls.Config{Certificates: []tls.Certificate{one}}, server))
		c := newConn(tls.Client(near, settings(nil, client)), client, nil, only("a"))
		sent := make(chan struct{})
		go func() { defer close(sent); a.Write(frames) }()
		if !strings.Contains(want, "asked") {
			c.awaited = make(chan proof, 1)
		}
		if _, err := c.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), strings.ReplaceAll(want, "  ", " ")) {
			t.Errorf("%v, want %q", err, want)
		}
		<-sent
		near.Close()
		far.Close()
	}
}
