package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

var alternations = flag.Int("alternations", 0, "`N` times TestFlood compares a flood with a burner; 0: it counts alone")

// A container at ten times its rate is limited, and another container's calls
// are not. With -alternations, on a machine that does nothing else, the flood
// leaves the other's p99 under three times its value next to a burner that
// takes as much CPU as the flood's own process. (The burner does not take the
// CPU that the daemon spends on the flood.)
func TestFlood(t *testing.T) {
	const limit, seconds = 500, 3
	m := newManager(t)
	m.configure(fmt.Sprintf("[limits]\nrequests_per_second = %d.0\n", limit))
	m.start()
	t.Cleanup(func() { m.daemon.Process.Kill(); m.daemon.Wait() })
	hostile, victim := m.contender(), m.contender()
	var ratios []float64
	var sent, refused, cpu int
	median := func() float64 {
		sorted := slices.Sorted(slices.Values(ratios))
		return sorted[len(sorted)/2]
	}
	for n := range max(1, *alternations) {
		hostile.say("flood %d %d", 10*limit, seconds*1000)
		flooded := victim.ask(t)
		hostile.hear(t, &sent, &refused, &cpu)
		if refused == 0 {
			t.Errorf("%d calls, %d refused: the flood is too small", sent, refused)
		}
		if *alternations == 0 {
			return
		}
		hostile.say("burn %d %d", seconds*1000, cpu)
		burnt := victim.ask(t)
		hostile.hear(t)
		ratios = append(ratios, float64(flooded)/float64(burnt))
		t.Logf("alternation %d: %d calls, %d refused, %d ms of CPU; p99 next to it %v, next to a burner %v",
			n, sent, refused, cpu, flooded, burnt)
	}
	t.Logf("median of %d alternations %.2f, from %.2f to %.2f", len(ratios), median(), slices.Min(ratios), slices.Max(ratios))
	if median() >= 3 {
		t.Errorf("next to a flood p99 is %.2f times what it is next to a burner", median())
	}
}

// configure writes another configuration.
func (m *manager) configure(text string) {
	m.Helper()
	if err := os.WriteFile(filepath.Join(m.dir, "cimad.toml"), []byte(text), 0o600); err != nil {
		m.Fatal(err)
	}
}

// contender is a container that takes orders.
type contender struct {
	in  io.Writer
	out *bufio.Scanner
}

func (m *manager) contender() *contender {
	m.Helper()
	const image = "cima-flood-test:1"
	if _, err := os.Stat(filepath.Join(m.dir, "contender")); err != nil {
		m.importImage(image, "contender")
	}
	run := m.docker.Command(context.Background(), "run", "--rm", "-i", "--network", "none",
		"-v", filepath.Join(m.dir, "cima")+":/run/cima:ro", image, "/contender")
	in, err1 := run.StdinPipe()
	out, err2 := run.StdoutPipe()
	if err1 != nil || err2 != nil {
		m.Fatal(err1, err2)
	}
	if err := run.Start(); err != nil {
		m.Fatal(err)
	}
	m.Cleanup(func() { in.Close(); run.Wait() })
	c := &contender{in, bufio.NewScanner(out)}
	c.say("ask 1000 10") // it is measured
	c.hear(m.T)
	return c
}

func (c *contender) say(format string, args ...any) { fmt.Fprintf(c.in, format+"\n", args...) }

// hear reads the numbers of an answer.
func (c *contender) hear(t *testing.T, to ...*int) {
	t.Helper()
	if !c.out.Scan() {
		t.Fatal("the container ended")
	}
	var list []any
	for _, n := range to {
		list = append(list, n)
	}
	if _, err := fmt.Sscan(c.out.Text(), list...); err != nil && len(list) > 0 {
		t.Fatalf("%q: %v", c.out.Text(), err)
	}
}

// ask has the container call for two seconds, well below its rate, while the
// other is active.
func (c *contender) ask(t *testing.T) (p99 time.Duration) {
	t.Helper()
	time.Sleep(300 * time.Millisecond)
	c.say("ask 5000 400")
	var ns, refused int
	c.hear(t, &ns, &refused)
	if refused > 0 {
		t.Errorf("%d calls were refused", refused)
	}
	return time.Duration(ns)
}
