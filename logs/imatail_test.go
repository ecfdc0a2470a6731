package logs

import (
	"bytes"
	"crypto"
	"crypto/sha512"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
)

// growing is a file of securityfs: it ends for now, and later goes on. It
// fails the test when it is read from its head again.
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

type counter struct {
	n     int
	asked int
	bad   bool
}

func (c *counter) ReadAt(p []byte, off int64) (int, error) {
	c.asked++
	if c.bad {
		return copy(p, "many\n"), io.EOF
	}
	return copy(p, fmt.Sprintf("%d\n", c.n)), io.EOF
}

func inCgroup(path, name string) kernelEntry {
	return kernelEntry{2, "ima-cgpath", []kernelField{text("swapper/0"), text(path), algoDigest("sha384", 4, 48), text(name)}, false}
}

func sumOf(entries ...kernelEntry) ContainerSum {
	var c ContainerSum
	for _, k := range entries {
		c.Register = sha512.Sum384(append(c.Register[:], k.hash(crypto.SHA384)...))
		c.Entries++
	}
	return c
}

func TestTailReadsOnlyWhatIsNew(t *testing.T) {
	for _, form := range []func(kernelEntry) string{
		func(k kernelEntry) string { return k.ascii(crypto.SHA384) },
		func(k kernelEntry) string { return k.binary(crypto.SHA384) },
	} {
		log, count := &growing{}, &counter{}
		var seen []string
		rtmr2 := NewRTMR2([48]byte{9})
		tail := NewIMATail(log, count, func(e *IMAEntry) { seen = append(seen, e.Fields()[3].Text) }, rtmr2)
		if n, err := tail.Update(); n != 0 || err != nil {
			t.Fatalf("empty log: %d, %v", n, err)
		}
		all := NewRTMR2([48]byte{9})
		var whole string
		for i := range 5 {
			k := inCgroup(cgroupA, fmt.Sprintf("/bin/%d", i))
			log.data, whole = append(log.data, form(k)...), whole+form(k)
			count.n++
			if n, err := tail.Update(); n != 1 || err != nil {
				t.Fatalf("entry %d: %d new, %v", i, n, err)
			}
		}
		reads := log.reads
		if n, err := tail.Update(); n != 0 || err != nil || log.reads != reads {
			t.Errorf("nothing new: %d, %v, %d reads", n, err, log.reads-reads)
		}
		if err := NewIMAReader(strings.NewReader(whole)).Replay(all); err != nil {
			t.Fatal(err)
		}
		if v, err := tail.Registers(); err != nil || !bytes.Equal(v[0], all.Value()) {
			t.Errorf("register %x, want %x, %v", v, all.Value(), err)
		}
		if strings.Join(seen, "") != "/bin/0/bin/1/bin/2/bin/3/bin/4" {
			t.Errorf("seen %v", seen)
		}
	}
}

// A read may end within an entry; the rest comes with a later one.
func TestTailWaitsForTheRestOfAnEntry(t *testing.T) {
	k := inCgroup(cgroupA, "/bin/sh")
	for _, raw := range []string{k.ascii(crypto.SHA384), k.binary(crypto.SHA384)} {
		log := &growing{}
		tail := NewIMATail(log, nil, nil)
		for i := range raw {
			log.data = append(log.data, raw[i])
			if n, err := tail.Update(); err != nil || n != 0 && i != len(raw)-1 {
				t.Fatalf("after byte %d: %d, %v", i, n, err)
			}
		}
		if s := tail.Status(); s.Entries != 1 || s.Skipped != 0 {
			t.Errorf("%+v", s)
		}
	}
}

func TestTailIsNotWedged(t *testing.T) {
	good := inCgroup(cgroupA, "/bin/sh").ascii(crypto.SHA384)
	log, count := &growing{data: []byte(good + "?!\n" + good)}, &counter{n: 3}
	tail := NewIMATail(log, count, nil)
	if n, err := tail.Update(); n != 2 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if s := tail.Status(); s.Skipped != 1 || s.LastSkip == nil || !strings.Contains(s.LastSkip.Error(), "after entry 1") {
		t.Errorf("%+v", s)
	}
	count.bad = true
	if _, err := tail.Update(); err == nil {
		t.Error("a count that is none was taken")
	}
	count.bad = false
	count.n = 4
	log.data = append(log.data, good...)
	if n, err := tail.Update(); n != 1 || err != nil {
		t.Errorf("after that: %d, %v", n, err)
	}
}

func TestContainersByCgroup(t *testing.T) {
	const a, b, inA = "/docker/a", "/docker/b", "/docker/a/c"
	entries := []kernelEntry{
		inCgroup(a, "/1"), inCgroup(b, "/2"), inCgroup("/docker/ab", "/3"), inCgroup(a+"/init", "/4"),
		inCgroup(inA, "/5"), inCgroup(inA+"/x", "/6"), inCgroup("/", "/7"), inCgroup("/docker", "/8"), inCgroup(a, "/9"),
		{2, "ima-dep-cgn", []kernelField{text("x"), text("a"), algoDigest("sha384", 4, 48), text("/10")}, false},
	}
	var raw string
	for _, k := range entries {
		raw += k.ascii(crypto.SHA384)
	}
	tail := NewIMATail(strings.NewReader(raw), nil, nil)
	for _, path := range []string{a, inA, b, "/none"} {
		if err := tail.Track(path); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]ContainerSum{
		a:   sumOf(entries[0], entries[3], entries[8]),
		inA: sumOf(entries[4], entries[5]), // declared below another's: its own, not the other's
		b:   sumOf(entries[1]), "/none": {},
	}
	for path, sum := range want {
		if got, ok, err := tail.Container(path); got != sum || !ok || err != nil {
			t.Errorf("%s: %+v, %v, %v, want %+v", path, got, ok, err, sum)
		}
	}
	if got, err := ReplayContainer(strings.NewReader(raw), a, inA, b); err != nil || got != want[a] {
		t.Errorf("from the whole log: %+v, %v", got, err)
	}
	if _, ok, _ := tail.Container("/docker"); ok {
		t.Error("a path that nobody tracks has a register")
	}
	tail.Untrack(a)
	if _, ok, _ := tail.Container(a); ok {
		t.Error("a path is tracked still")
	}
	for _, path := range []string{"", "/", "//"} {
		if tail.Track(path) == nil {
			t.Errorf("%q was taken for a container", path)
		}
	}
}

// Entries count from when their container is tracked, also where its cgroup
// was met before.
func TestTrackingBeginsLater(t *testing.T) {
	const a, b = "/docker/a", "/docker/a/b"
	k := inCgroup(b, "/bin/sh")
	log := &growing{}
	tail := NewIMATail(log, nil, nil)
	for i, path := range []string{"/other", a, b} {
		if err := tail.Track(path); err != nil {
			t.Fatal(err)
		}
		for range i + 1 {
			log.data = append(log.data, k.ascii(crypto.SHA384)...)
		}
		if _, err := tail.Update(); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]ContainerSum{"/other": {}, a: sumOf(k, k), b: sumOf(k, k, k)} {
		if got, _, err := tail.Container(path); got != want || err != nil {
			t.Errorf("%s: %+v, %v, want %+v", path, got, err, want)
		}
	}
	tail.Untrack(b)
	log.data = append(log.data, k.ascii(crypto.SHA384)...)
	if got, _, err := tail.Container(a); got != sumOf(k, k, k) || err != nil {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestTrackedContainersAreBounded(t *testing.T) {
	tail := NewIMATail(strings.NewReader(""), nil, nil)
	for i := range maxTracked {
		if err := tail.Track(fmt.Sprintf("/c%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if tail.Track("/one-more") == nil || tail.Track("/c0") != nil {
		t.Error("the bound does not hold, or keeps a tracked one out")
	}
}

func TestTailForManyAtOnce(t *testing.T) {
	path := t.TempDir() + "/log"
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	in, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	tail := NewIMATail(in, nil, nil)
	if err := tail.Track(cgroupA); err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for range 100 {
				if _, _, err := tail.Container(cgroupA); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 100 {
		if _, err := out.WriteString(inCgroup(cgroupA, "/bin/sh").ascii(crypto.SHA384)); err != nil {
			t.Fatal(err)
		}
	}
	wait.Wait()
	if sum, _, err := tail.Container(cgroupA); sum.Entries != 100 || err != nil {
		t.Errorf("%d entries, %v", sum.Entries, err)
	}
}
