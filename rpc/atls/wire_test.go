package atls

import (
	"bytes"
	"crypto/tls"
	"net"
	"strings"
	"testing"

	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/tree"
)

func TestFramesHaveBounds(t *testing.T) {
	for k, bounds := range map[kind][2]int{
		frameData: {1, maxData}, frameChallenge: {32, 32}, frameTree: {1, maxTree},
		frameReport: {54, 256 << 10}, frameLacking: {52, 52}, frameLogs: {4, 24 << 20},
	} {
		for _, n := range []int{bounds[0] - 1, bounds[0], bounds[1], bounds[1] + 1} {
			good := n >= bounds[0] && n <= bounds[1]
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
	all, err := rpc.NewTree(leaves)
	if err != nil {
		t.Fatal(err)
	}
	b, err := proof{place: all.Shared(rpc.MaxShared - 1), report: []byte("{}")}.frames()
	if err != nil {
		t.Fatal(err)
	}
	k, n, err := header(b)
	if err != nil || k != frameTree {
		t.Fatal(k, err)
	}
	back, err := tree.ReadPlace(b[headerSize : headerSize+n])
	if err != nil || back.Size != rpc.MaxShared {
		t.Errorf("%v, %v", back, err)
	}
	if _, err := (proof{place: back, report: make([]byte, maxReport)}).frames(); err == nil {
		t.Error("a report that no frame holds is sent")
	}
}

// Whatever frames hold, they are read within their bounds, and logs that are taken are
// those of the report.
func FuzzFrame(f *testing.F) {
	own := new(parts)
	own.chain = make([]rpc.Digest, 1)
	for _, piece := range []string{`"boot"`, `{"event":"AA=="}`, ``} {
		own.add([]byte(piece))
	}
	rest, _ := own.from(stand{})
	f.Add(frame(nil, frameChallenge, make([]byte, 32)))
	f.Add(frame(nil, frameTree, []byte(`{"size":1,"index":0,"path":[]}`)))
	f.Add(frame(nil, frameReport, append(own.whole().append(nil), "{}"...)))
	f.Add(frame(nil, frameLacking, own.whole().append(nil)))
	f.Add(frame(nil, frameLogs, rest))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, body, err := readFrame(bytes.NewReader(b))
		if err != nil {
			return
		}
		switch k {
		case frameTree:
			tree.ReadPlace(body)
		case frameReport:
			readReport(nil, body)
		case frameLacking:
			if has, err := readStand(body); err == nil {
				own.from(has)
			}
		case frameLogs:
			got, err := readLogs(body, &parts{chain: make([]rpc.Digest, 1)}, own.whole())
			if err != nil {
				return
			}
			if again, _ := got.from(stand{}); !bytes.Equal(again, rest) {
				t.Errorf("%q is taken for %q", body, rest)
			}
		}
	})
}

// Frames that don't belong where they come end the session at their header: nobody reads
// on, and nobody is judged by evidence without its place in the tree.
func TestOrderOfFrames(t *testing.T) {
	for want, frames := range map[string][]byte{
		"must follow each other":         frame(nil, frameReport, make([]byte, 60)),
		"must follow each  other":        frame(frame(nil, frameTree, []byte(`{"size":1,"index":0,"path":[]}`)), frameData, []byte("x")),
		"evidence that nobody asked for": frame(nil, frameTree, []byte("{}"))[:headerSize],
		"that nobody asked  for":         frame(nil, frameLogs, make([]byte, 4))[:headerSize],
		"the logs of no report":          nothing[:headerSize],
	} {
		near, far := net.Pipe()
		one, err := ownCertificate()
		if err != nil {
			t.Fatal(err)
		}
		a := tls.Server(far, settings(&tls.Config{Certificates: []tls.Certificate{one}}, server))
		c := newConn(tls.Client(near, settings(nil, client)), client, means{appraiser: only("a")})
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
