package ima

import (
	"bytes"
	"io"
	"strings"
	"testing"
)

// The longest entry is the same, however much one read returns.
func TestLongestEntry(t *testing.T) {
	head := "10 " + strings.Repeat("ab", 20) + " ima-ng sha1:00 "
	for size, want := range map[int]int64{maxEntry - 1: 2, maxEntry: 2, maxEntry + 1: 1, maxEntry * 3 / 2: 1} {
		raw := []byte(head + strings.Repeat("x", size-len(head)) + "\n" + head + "y\n")
		for name, src := range map[string]io.Reader{"whole": bytes.NewReader(raw), "in pieces": &growing{data: raw}} {
			r := NewReader(src)
			if err := r.Replay(); err != nil || r.Entries != want || r.Skipped != 2-want {
				t.Errorf("%d bytes, %s: %d entries, %d skipped, %v", size, name, r.Entries, r.Skipped, err)
			}
		}
	}
}

// growing is like a file of securityfs: after its end, there may be more. It counts reads.
type growing struct {
	data  []byte
	at    int
	reads int
}

func (g *growing) Read(p []byte) (int, error) {
	g.reads++
	if g.at == len(g.data) {
		return 0, io.EOF
	}
	n := copy(p, g.data[g.at:min(g.at+100, len(g.data))])
	g.at += n
	return n, nil
}
