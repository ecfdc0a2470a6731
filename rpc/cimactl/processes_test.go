package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cima-project/cima/hw/verify/collateral"
)

// process is cimactl as a program of its own, with a cache.
func (a *appraisal) process(cache string, out *bytes.Buffer) *exec.Cmd {
	c := exec.Command("cimactl", a.online(a.url)...)
	c.Env = append(os.Environ(), "XDG_CACHE_HOME="+cache)
	c.Stdout, c.Stderr = out, out
	return c
}

// TestProcessesAtOneCache: programs that appraise at once, at one empty cache, ask the
// service for each document once, and each of them appraises.
func TestProcessesAtOneCache(t *testing.T) {
	a := newAppraisal(t)
	const programs = 4
	started := make(chan struct{})
	a.service.SetBefore(func(http.ResponseWriter, *http.Request) bool {
		<-started // all are there before the first has its answer
		return false
	})
	cache := t.TempDir()
	outs, running := make([]bytes.Buffer, programs), make([]*exec.Cmd, programs)
	for i := range running {
		running[i] = a.process(cache, &outs[i])
		if err := running[i].Start(); err != nil {
			t.Fatal(err)
		}
	}
	close(started)
	for i, c := range running {
		if err := c.Wait(); err != nil || !strings.Contains(outs[i].String(), "trusted") {
			t.Errorf("%v\n%s", err, &outs[i])
		}
	}
	if n := a.service.Asked.Load(); n != 4 {
		t.Errorf("%d programs asked %d times for 4 documents", programs, n)
	}
}

// TestKilledProcesses: a program that fills a cache is killed at a random point. The cache
// then has whole documents and no others, the next program gets what is missing, and
// nothing of a killed one is left behind it.
func TestKilledProcesses(t *testing.T) {
	const seed = 4
	random := rand.New(rand.NewPCG(seed, 0))
	kills := 20
	if *whole {
		kills = 200
	}
	a := newAppraisal(t)
	var mu sync.Mutex
	var killAt func() // at each question
	a.service.SetBefore(func(http.ResponseWriter, *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		killAt()
		return false
	})
	points := map[string]int{}
	for range kills {
		cache := t.TempDir()
		var out bytes.Buffer
		c := a.process(cache, &out)
		question, later := 1+random.IntN(4), time.Duration(random.IntN(4000))*time.Microsecond
		asked, started := 0, make(chan *os.Process, 1)
		mu.Lock()
		killAt = func() {
			if asked++; asked == question {
				time.AfterFunc(later, func() { (<-started).Kill() })
			}
		}
		mu.Unlock()
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		started <- c.Process
		err := c.Wait()
		a.server.CloseClientConnections() // returns when each question of the killed one was counted
		folder := filepath.Join(cache, "cima", "collateral")
		states, failed := collateral.Kept(t.Context(), folder, nil, time.Now())
		if failed != nil {
			t.Fatal(failed)
		}
		points[fmt.Sprintf("killed: %v, documents: %d, half files: %d", err != nil, len(states), len(half(t, folder)))]++
		mu.Lock()
		killAt = func() {}
		mu.Unlock()
		before := a.service.Asked.Load()
		out.Reset()
		if err := a.process(cache, &out).Run(); err != nil {
			t.Errorf("after a kill: %v\n%s", err, &out)
		}
		// The killed one may have had an answer that it didn't keep. What it kept is whole, and isn't asked for.
		if again := int(a.service.Asked.Load() - before); again != 4-len(states) {
			t.Errorf("%d documents were kept, and %d asked for", len(states), again)
		}
		if left := half(t, folder); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
	t.Logf("%d kills, seed %d: %v", kills, seed, points)
}

// half are the files that somebody was writing.
func half(t *testing.T, folder string) []string {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(folder, ".new-*"))
	if err != nil {
		t.Fatal(err)
	}
	return left
}
