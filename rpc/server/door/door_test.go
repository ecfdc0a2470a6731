package door

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testDoor is a door with a listener whose queue is long, and what it let in.
type testDoor struct {
	*Door
	t        *testing.T
	listener *countedListener
	origins  func() (victim, hostile int) // how often they were taken
	refused  atomic.Int64
	turned   [TooFast + 1]atomic.Int64
	goes     sync.WaitGroup
	open     atomic.Int64
}

// countedListener counts how often a connection was taken by package net.
type countedListener struct {
	*net.UnixListener
	accepted atomic.Int64
}

func (l *countedListener) Accept() (net.Conn, error) {
	l.accepted.Add(1)
	return l.UnixListener.Accept()
}

func byName(socket int) (string, bool) {
	address, err := unix.Getpeername(socket)
	if err != nil {
		return "", false
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(address.(*unix.SockaddrUnix).Name, "@"), "-")
	return name, name != "ended"
}

func newTestDoor(t *testing.T) *testDoor {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: filepath.Join(t.TempDir(), "s")})
	if err != nil {
		t.Fatal(err)
	}
	h := &testDoor{t: t, listener: &countedListener{UnixListener: l}}
	var victim, hostile atomic.Int64
	h.origins = func() (int, int) { return int(victim.Load()), int(hostile.Load()) }
	h.Door = &Door{
		Origin: byName, Rate: 1e-6, Burst: 16, Slots: 8, Share: 2, Waiting: 100,
		Admit: func() bool { h.open.Add(1); return true }, Leave: func() { h.open.Add(-1) },
		Take: func(nc net.Conn, identified func()) {
			if strings.HasPrefix(nc.RemoteAddr().String(), "@hostile") {
				hostile.Add(1)
			} else {
				victim.Add(1)
				io.WriteString(nc, "taken")
			}
			identified()
			nc.Close()
			h.open.Add(-1)
		},
		Go: h.goes.Go, Refused: func() { h.refused.Add(1) },
		TurnAway: func(nc net.Conn, why Reason) { h.turned[why].Add(1); nc.Close() },
	}
	return h
}

// serve runs the door until the test ends.
func (h *testDoor) serve() {
	ctx, stop := context.WithCancel(h.t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Serve(ctx, h.listener) }()
	h.t.Cleanup(func() {
		stop()
		h.listener.Close()
		if err := <-done; err != nil {
			h.t.Errorf("Serve: %v", err)
		}
		h.goes.Wait()
		if n := h.open.Load(); n != 0 {
			h.t.Errorf("%d connections were admitted and did not leave", n)
		}
	})
}

var dialled atomic.Int64

// connect connects without waiting, as somebody whose client fails with EAGAIN.
func (h *testDoor) connect(name string) (net.Conn, error) {
	from := &net.UnixAddr{Net: "unix", Name: "@" + name + "-" + h.t.Name() + time.Now().Format(".000000000") + string(rune('a'+dialled.Add(1)%26))}
	d := net.Dialer{LocalAddr: from}
	return d.Dial("unix", h.listener.Addr().String())
}

// flood leaves n connections in the kernel's queue, whose peer has hung up.
func (h *testDoor) flood(n int) {
	h.t.Helper()
	for range n {
		nc, err := h.connect("hostile")
		if err != nil {
			h.t.Fatal(err)
		}
		nc.Close()
	}
}

// asked is what a connection is answered.
func asked(t *testing.T, nc net.Conn) string {
	t.Helper()
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(time.Minute))
	answer, err := io.ReadAll(nc)
	if err != nil && !errors.Is(err, unix.ECONNRESET) {
		t.Error(err)
	}
	return string(answer)
}

// Whatever one origin leaves in the kernel's queue, it is taken as often as its rate
// allows; all else of it is closed before anything is done for it, and who comes behind
// is taken.
func TestFloodInTheQueue(t *testing.T) {
	h := newTestDoor(t)
	const flood = 2000
	h.flood(flood)
	nc, err := h.connect("victim")
	if err != nil {
		t.Fatal(err)
	}
	h.serve()
	if got := asked(t, nc); got != "taken" {
		t.Errorf("the victim got %q", got)
	}
	h.goes.Wait()
	victim, hostile := h.origins()
	most := h.Burst + max(1, h.Burst/quietPart)
	closed, told := int(h.refused.Load()), int(h.turned[TooFast].Load())
	if victim != 1 || hostile == 0 || hostile > most {
		t.Errorf("taken: %d of the victim, %d of %d hostile ones, %d are allowed", victim, hostile, flood, most)
	}
	if hostile+closed+told != flood || told > flood/10 { // some each second
		t.Errorf("%d taken, %d closed, %d told why: must be %d", hostile, closed, told, flood)
	}
	// The queue is empty: nobody fails.
	h.flood(2000)
	if nc, err = h.connect("other"); err != nil {
		t.Fatal(err)
	}
	if got := asked(t, nc); got != "taken" {
		t.Errorf("another got %q", got)
	}
}

// Connections that come one by one, beyond a rate, are taken past package net, until there
// was none for a second.
func TestFloodOneByOne(t *testing.T) {
	h := newTestDoor(t)
	h.Burst = 1
	h.serve()
	begun := time.Now()
	const flood = 100
	for n := range int64(flood) {
		h.flood(1)
		for h.refused.Load()+h.turned[TooFast].Load() < n-1 { // the first two may be taken
			time.Sleep(100 * time.Microsecond)
		}
	}
	most := 4 + int64(time.Since(begun)/time.Second)
	if n := h.listener.accepted.Load(); n > most {
		t.Errorf("package net took %d of %d connections, must be %d at most", n, flood, most)
	}
}

// The door does not wait for identifications that hang, not even where one origin has as
// many as it may.
func TestHangingIdentification(t *testing.T) {
	h := newTestDoor(t)
	h.Burst, h.Waiting = 400, 5
	hang := make(chan struct{})
	take := h.Take
	var hanging atomic.Int64
	h.Take = func(nc net.Conn, identified func()) {
		if strings.HasPrefix(nc.RemoteAddr().String(), "@hostile") {
			hanging.Add(1)
			<-hang
		}
		take(nc, identified)
	}
	h.flood(100)
	var victims []net.Conn
	for range 3 {
		nc, err := h.connect("victim")
		if err != nil {
			t.Fatal(err)
		}
		victims = append(victims, nc)
	}
	h.serve()
	for _, nc := range victims {
		if got := asked(t, nc); got != "taken" {
			t.Errorf("a victim got %q", got)
		}
	}
	if n, most := int(hanging.Load()), h.Share+h.Slots/2; n > most {
		t.Errorf("%d identifications of one origin at once, it may have %d", n, most)
	}
	close(hang)
}

// A process that has ended before it is looked at is refused, and no others are.
func TestNoOrigin(t *testing.T) {
	h := newTestDoor(t)
	h.Burst = 1
	h.serve()
	for _, tt := range [][2]string{{"first", "taken"}, {"second", "taken"}, {"ended", ""}, {"third", "taken"}} {
		nc, err := h.connect(tt[0])
		if err != nil {
			t.Fatal(err)
		}
		if got := asked(t, nc); got != tt[1] {
			t.Errorf("%s got %q, must get %q", tt[0], got, tt[1])
		}
	}
}

// A refusal of Admit is answered, and leaves no count behind.
func TestFull(t *testing.T) {
	h := newTestDoor(t)
	h.Admit = func() bool { return false }
	h.serve()
	nc, err := h.connect("victim")
	if err != nil {
		t.Fatal(err)
	}
	if got := asked(t, nc); got != "" || h.turned[Full].Load() != 1 {
		t.Errorf("got %q, %d were turned away", got, h.turned[Full].Load())
	}
}

// pipe is a connection to push.
func pipe(t *testing.T) net.Conn {
	a, b := net.Pipe()
	t.Cleanup(func() { a.Close(); b.Close() })
	return a
}

// Origins take turns, and none takes more than its share of slots.
func TestTurns(t *testing.T) {
	var l line
	l.setUp(4, 2, 4, 50)
	names := make(map[net.Conn]string)
	push := func(origin string) (now, ok bool) {
		nc := pipe(t)
		names[nc] = origin
		return l.push(nc, origin)
	}
	count := func(wantNow, wantOK bool, origin string) {
		t.Helper()
		if now, ok := push(origin); now != wantNow || ok != wantOK {
			t.Fatalf("push of %s: now %t, ok %t", origin, now, ok)
		}
	}
	count(true, true, "a")
	count(true, true, "a")
	for range 50 {
		count(false, true, "a") // two of its share are taken
	}
	count(false, false, "a") // and fifty wait
	count(true, true, "b")
	count(true, true, "c")
	count(false, true, "c")
	count(false, true, "d")
	count(false, true, "")
	count(false, true, "d")
	var order []string
	for _, done := range []string{"a", "b", "c", "c", "d", "a"} {
		nc, origin, ok := l.next(done)
		if !ok || names[nc] != origin {
			t.Fatalf("behind %s comes %q, %t", done, origin, ok)
		}
		order = append(order, origin)
	}
	if want := []string{"c", "d", "", "a", "d", "a"}; !slices.Equal(order, want) {
		t.Errorf("order %q, must be %q", order, want)
	}
	if rest := l.close(); len(rest) == 0 {
		t.Error("none waits any more")
	}
	if _, _, ok := l.next("a"); ok {
		t.Error("one is taken behind close")
	}
}

// A rate lasts when its origin has gone, and the table of rates has a bound.
func TestRatesLast(t *testing.T) {
	var r rates
	r.setUp(1e-6, 2)
	for n, want := range []bool{true, true, false} {
		if r.allow("a") != want {
			t.Fatalf("connection %d of a, which has two: not %v", n, want)
		}
	}
	for n := range 3 * maxOrigins {
		r.allow(string(rune('b'+n%1000)) + string(rune('b'+n/1000)))
	}
	if r.allow("a") {
		t.Error("a has its rate anew, because others came")
	}
	if len(r.byOrigin) > maxOrigins+1 {
		t.Errorf("%d origins are known", len(r.byOrigin))
	}
	if r.allow("new") && r.allow("newer") && r.allow("newest") {
		t.Error("origins beyond the table have no rate")
	}
}
