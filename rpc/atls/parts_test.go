package atls

import (
	"context"
	"encoding/binary"
	json "encoding/json/v2"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/tree"
)

func apart(t *testing.T, evidence string) *parts {
	t.Helper()
	p, err := takeApart([]byte(evidence))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Evidence that was taken apart comes together as it was, in the daemon's order.
func TestPartsComeTogether(t *testing.T) {
	for evidence, pieces := range map[string]int{
		`{"claims":{"a":[1,"}"]},"quote":"AA==","boot_log":"AA==","os_logs":[{"entries":"AA=="}],"runtime_log":[{"event":"AA=="},{"digests":"BB=="}]}`: 4,
		`{"quote":"AA==","boot_log":"","runtime_log":[]}`: 2,
	} {
		p := apart(t, evidence)
		if got, err := together(p.report, p.pieces); err != nil || string(got) != evidence || len(p.pieces) != pieces {
			t.Errorf("%s, %v of %d pieces, want %s of %d", got, err, len(p.pieces), evidence, pieces)
		}
	}
	for _, wrong := range []string{``, `[]`, `{}`, `{"boot_log":"","runtime_log":[]}`, `{"quote":"","runtime_log":[]}`, `{"quote":"","boot_log":""}`, `{"quote":"","boot_log":"","runtime_log":{}}`, `{"quote":"","boot_log":"","runtime_log":[`} {
		if _, err := takeApart([]byte(wrong)); err == nil {
			t.Errorf("%s is taken apart", wrong)
		}
	}
	for report, pieces := range map[string][][]byte{`{"quote":""`: {nil, nil}, `{}`: {nil}, ``: {nil, nil}} {
		if _, err := together([]byte(report), pieces); err == nil {
			t.Errorf("%q and %d pieces come together", report, len(pieces))
		}
	}
	if _, err := together([]byte("{}"), [][]byte{make([]byte, rpc.MaxEvidence), nil}); err == nil {
		t.Error("evidence without a bound comes together")
	}
}

// The parts of evidence are those that cima-access(7) says.
func TestVectors(t *testing.T) {
	text, err := os.ReadFile("../vectors/trees.json")
	if err != nil {
		t.Fatal(err)
	}
	var all struct {
		Parts []struct {
			Evidence string     `json:"evidence"`
			Report   string     `json:"report"`
			Pieces   int        `json:"pieces"`
			Chain    rpc.Digest `json:"chain"`
		} `json:"parts"`
	}
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	for _, v := range all.Parts {
		p := apart(t, v.Evidence)
		if want := (stand{v.Pieces, v.Chain}); string(p.report) != v.Report || p.whole() != want {
			t.Errorf("%s: %s, %v", v.Evidence, p.report, p.whole())
		}
	}
	if len(all.Parts) < 2 {
		t.Error("there are too few")
	}
}

// counted counts what comes over a connection.
type counted struct {
	net.Conn
	came *atomic.Int64
}

func (c counted) Read(to []byte) (int, error) {
	n, err := c.Conn.Read(to)
	c.came.Add(int64(n))
	return n, err
}

// took is how many bytes came in a session, until the program's own.
func took(t *testing.T, d *Dialer, address string) int64 {
	t.Helper()
	nc, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	came := new(atomic.Int64)
	c, err := d.Client(t.Context(), counted{nc, came})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.ReadFull(c, make([]byte, len(greeting))); err != nil {
		t.Fatal(err)
	}
	return came.Load()
}

// Logs travel once; of one that has grown, what is new travels; of one that changed where it
// was known, all. The evidence is appraised as a whole each time.
func TestLogsTravelOnce(t *testing.T) {
	const big = 200_000
	entry := func(c string) string { return strings.Repeat(c, big) }
	a := &container{name: "a", logs: []string{entry("x")}}
	at, _ := serving(t, Server{Prover: tree.NewProver(a)})
	b := &container{name: "b", logs: []string{entry("x"), entry("w")}}
	elsewhere, _ := serving(t, Server{Prover: tree.NewProver(b)})
	both := &seen{}
	d := &Dialer{Appraiser: both}
	for _, step := range []struct {
		about, at   string
		change      func()
		least, most int64
	}{
		{"first", at, func() {}, big, 2 * big},
		{"again", at, func() {}, 0, big / 10},
		{"grown", at, func() { a.logs = append(a.logs, entry("y")) }, big, 2 * big},
		{"again, grown", at, func() {}, 0, big / 10},
		{"changed", at, func() { a.logs = []string{entry("z"), entry("y"), "k"} }, 2 * big, 3 * big},
		{"of another container", elsewhere, func() {}, 2 * big, 3 * big},
		{"of the first", at, func() {}, 0, big / 10},
	} {
		step.change()
		if n := took(t, d, step.at); n < step.least || n > step.most {
			t.Errorf("%s: %d bytes, want %d to %d", step.about, n, step.least, step.most)
		}
		want := a
		if step.at == elsewhere {
			want = b
		}
		if both.last.Claims.Container.ID != want.name || !slices.Equal(both.last.RuntimeLog, want.logs) {
			t.Errorf("%s: other logs were appraised than the container has", step.about)
		}
	}
	if n := took(t, &Dialer{Appraiser: only("a")}, at); n < 2*big {
		t.Errorf("%d bytes for another dialer", n)
	}
}

// seen takes all evidence, and has the last.
type seen struct{ last bundle }

func (s *seen) Appraise(_ context.Context, evidence, _, _ []byte) error {
	s.last = bundle{}
	return json.Unmarshal(evidence, &s.last)
}

// What was refused isn't kept.
func TestRefusedLogsAreNotKept(t *testing.T) {
	d := &Dialer{Appraiser: only("b")}
	if _, err := greeted(t, d, server1(t)); err == nil {
		t.Fatal("another container is taken")
	}
	if len(d.known.logs) != 0 {
		t.Error("its logs are kept")
	}
}

// Logs that aren't those of the report are refused, whatever is wrong.
func TestLogsMustBeTheReports(t *testing.T) {
	own := apart(t, `{"quote":"","boot_log":"b","runtime_log":["one","two"]}`)
	has := &parts{pieces: own.pieces[:2], chain: own.chain[:3]}
	rest, _ := own.from(has.whole())
	whole, _ := own.from(stand{})
	if p, err := readLogs(rest, has, own.whole()); err != nil || len(p.pieces) != 4 {
		t.Fatal(p, err)
	}
	if p, err := readLogs(whole, has, own.whole()); err != nil || len(p.pieces) != 4 {
		t.Fatal(p, err)
	}
	if _, due := own.from(own.whole()); due {
		t.Error("logs are due to who has all")
	}
	other := own.whole()
	other.chain[0]++
	if body, _ := own.from(other); string(body) != string(whole) {
		t.Error("who has other logs doesn't get all")
	}
	if body, _ := own.from(stand{count: maxPieces}); string(body) != string(whole) {
		t.Error("who has more logs doesn't get all")
	}
	for about, body := range map[string][]byte{
		"end too soon":     rest[:3],
		"within a piece":   rest[:len(rest)-5],
		"begin at":         append([]byte{0, 0, 0, 1}, rest[4:]...),
		"aren't those of":  whole[:4+4+3],
		"begin at the":     append([]byte{255, 0, 0, 0}, rest[4:]...),
		"aren't those":     binary.BigEndian.AppendUint32(nil, 2),
		"more than the":    append(slices.Clone(rest), 0, 0, 0, 0),
		"ends within":      append(slices.Clone(rest), 255, 255, 255, 255),
		"are not those of": []byte(strings.Replace(string(whole), "one", "two", 1)),
	} {
		if p, err := readLogs(body, has, own.whole()); err == nil {
			t.Errorf("%s: %q is taken", about, p.pieces)
		}
	}
	if _, err := readStand(stand{count: maxPieces + 1}.append(nil)); err == nil {
		t.Error("there may be more pieces than evidence has bytes for")
	}
}

// A run of digests at the end may grow, so that it isn't offered; nor are the system's logs.
func TestWhatIsStable(t *testing.T) {
	for evidence, want := range map[string]int{
		`{"claims":{},"boot_log":"b","os_logs":[],"runtime_log":[{"event":"e"},{"digests":"d"}]}`: 2,
		`{"claims":{},"boot_log":"b","runtime_log":[{"digests":"d"},{"event":"e"}]}`:              3,
		`{"claims":{},"boot_log":"b","runtime_log":[]}`:                                           1,
	} {
		if got := apart(t, evidence).stable(); len(got.pieces) != want || got.whole().count != want {
			t.Errorf("%s: %d pieces are stable, want %d", evidence, len(got.pieces), want)
		}
	}
}

// So many logs are kept and no more; those that were used last stay.
func TestKnownHasBounds(t *testing.T) {
	k := new(known)
	of := func(i, size int) ([]byte, *parts) {
		p := apart(t, fmt.Sprintf(`{"claims":{"container":{"id":"%d"}},"boot_log":"%s%d","runtime_log":[]}`, i, strings.Repeat("x", size), i))
		return p.report, p
	}
	for i := range 40 {
		k.keep(of(i, 1))
		report, first := of(0, 1)
		if all, _ := k.find(report, first.whole()); all == nil {
			t.Fatalf("what is used is gone after %d", i)
		}
	}
	if len(k.logs) != maxKnown {
		t.Errorf("%d are kept", len(k.logs))
	}
	k.keep(of(0, 2))
	if len(k.logs) != maxKnown {
		t.Errorf("%d are kept: one container's twice", len(k.logs))
	}
	for i := range 5 {
		k.keep(of(i, maxKnownBytes/3))
	}
	if len(k.logs) != 2 {
		t.Errorf("%d large ones are kept", len(k.logs))
	}
	k.keep(of(9, maxKnownBytes+1))
	if len(k.logs) != 0 {
		t.Error("what is above the bound is kept")
	}
}
