package ima

import (
	"crypto"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
)

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

func TestTailReadsOnlyWhatIsNew(t *testing.T) {
	for _, form := range []func(kernelEntry) string{
		func(k kernelEntry) string { return k.ascii(crypto.SHA384) },
		func(k kernelEntry) string { return k.binary(crypto.SHA384) },
	} {
		log, count := &growing{}, &counter{}
		var seen []string
		tail := NewTail(log, count, func(e *Entry) { seen = append(seen, e.Fields()[3].Text) })
		if n, err := tail.Update(); n != 0 || err != nil {
			t.Fatalf("empty log: %d, %v", n, err)
		}
		for i := range 5 {
			k := inCgroup(cgroupA, fmt.Sprintf("/bin/%d", i))
			log.data = append(log.data, form(k)...)
			count.n++
			if n, err := tail.Update(); n != 1 || err != nil {
				t.Fatalf("entry %d: %d new, %v", i, n, err)
			}
		}
		reads := log.reads
		if n, err := tail.Update(); n != 0 || err != nil || log.reads != reads {
			t.Errorf("nothing new: %d, %v, %d reads", n, err, log.reads-reads)
		}
		if strings.Join(seen, "") != "/bin/0/bin/1/bin/2/bin/3/bin/4" {
			t.Errorf("seen %v", seen)
		}
	}
}

// A read may end within an entry, whose rest comes with a later read.
func TestTailWaitsForTheRestOfAnEntry(t *testing.T) {
	k := inCgroup(cgroupA, "/bin/sh")
	for _, raw := range []string{k.ascii(crypto.SHA384), k.binary(crypto.SHA384)} {
		log := &growing{}
		tail := NewTail(log, nil, nil)
		for i := range raw {
			log.data = append(log.data, raw[i])
			if n, err := tail.Update(); err != nil || n != 0 && i != len(raw)-1 {
				t.Fatalf("after byte %d: %d, %v", i, n, err)
			}
		}
		if s := tail.Status(); s.entries != 1 || s.Skipped != 0 {
			t.Errorf("%+v", s)
		}
	}
}

func TestTailSkipsBrokenEntries(t *testing.T) {
	good := inCgroup(cgroupA, "/bin/sh").ascii(crypto.SHA384)
	log, count := &growing{data: []byte(good + "?!\n" + good)}, &counter{n: 3}
	tail := NewTail(log, count, nil)
	if n, err := tail.Update(); n != 2 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if s := tail.Status(); s.Skipped != 1 || s.lastSkip == nil || !strings.Contains(s.lastSkip.Error(), "after entry 1") {
		t.Errorf("%+v", s)
	}
	count.bad = true
	if _, err := tail.Update(); err == nil {
		t.Error("a wrong count was accepted")
	}
	count.bad = false
	count.n = 4
	log.data = append(log.data, good...)
	if n, err := tail.Update(); n != 1 || err != nil {
		t.Errorf("after that: %d, %v", n, err)
	}
}

func TestTailIsSafeForConcurrentUse(t *testing.T) {
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
	tail := NewTail(in, nil, nil)
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for range 100 {
				if _, err := tail.Update(); err != nil {
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
	if _, err := tail.Update(); err != nil || tail.Status().entries != 100 {
		t.Errorf("%+v, %v", tail.Status(), err)
	}
}
