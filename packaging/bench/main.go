// Bench answers: how fast is it, beside the limit of what a socket can do? It
// starts a simulated TD, the real daemon, and a server that does nothing but
// give back single bytes, each in its own process, drives them in turn with
// one and the same client, in a container where there is docker, and reports
// ratios.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == "raw" {
		fail(rawServer(os.Args[2]))
	}
	if len(os.Args) == 2 && os.Args[1] == "client" {
		fail(client(os.Stdin, os.Stdout))
	}
	var p plan
	flag.StringVar(&p.bin, "bin", "bin", "`DIR` of cimad-sim")
	flag.StringVar(&p.out, "out", ".cache/bench", "`DIR` that bench.md and bench.json are written to")
	flag.IntVar(&p.rounds, "rounds", 15, "`N` rounds of each measurement")
	flag.DurationVar(&p.time, "time", 400*time.Millisecond, "`TIME` of a round")
	flag.BoolVar(&p.host, "host", false, "call from this machine itself, also where there is docker")
	flag.StringVar(&p.only, "only", "", "measure only what has `TEXT` in its name")
	flag.DurationVar(&p.hold, "hold", 0, "drive the daemon for `TIME` and measure nothing: a profiler may look at it")
	strict := flag.Bool("strict", false, "exit with 1 where a target is not met")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	met, err := p.run(ctx)
	stop()
	if err != nil {
		fail(err)
	}
	if *strict && !met {
		os.Exit(1)
	}
}

func fail(err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...) }

// plan is what is measured, and how often.
type plan struct {
	bin, out string
	rounds   int
	time     time.Duration
	host     bool
	only     string
	hold     time.Duration
}

// run measures all and reports whether every target was met.
func (p plan) run(ctx context.Context) (met bool, err error) {
	s, err := newStage(ctx, p.bin, p.host)
	if err != nil {
		return false, err
	}
	defer s.close()
	r := report{Where: s.where, Begun: time.Now().UTC(), Rounds: p.rounds, Time: p.time.String(), LoadBefore: load()}
	for _, m := range s.measurements() {
		if !strings.Contains(m.name, p.only) {
			continue
		}
		if p.hold > 0 {
			say("%s: the daemon is pid %d", m.name, s.daemon)
			_, err := s.driver.ask(ctx, m.order(p.hold))
			return true, err
		}
		row, err := p.measure(ctx, s, m)
		if err != nil {
			return false, fmt.Errorf("%s: %w", m.name, err)
		}
		r.Rows = append(r.Rows, row)
		say("%s: %s", row.Name, row.summary())
	}
	if len(r.Rows) == 0 {
		return false, fmt.Errorf("nothing has %q in its name", p.only)
	}
	r.LoadAfter = load()
	r.PeakMemoryKiB = peakMemory(s.daemon)
	fmt.Print(r.markdown())
	return r.met(), r.write(filepath.Clean(p.out))
}

// measure drives the daemon and, in turn with it, the bare server.
func (p plan) measure(ctx context.Context, s *stage, m measurement) (row, error) {
	rounds := p.rounds
	if m.rounds > 0 {
		rounds = min(rounds, m.rounds)
	}
	out := row{Name: m.name, Target: m.target, Connect: m.connect}
	for i := range rounds {
		var limit, ours result
		for turn := range 2 {
			var err error
			if (turn+i)%2 == 0 {
				limit, err = s.round(ctx, s.raw, m.bare(p.time), &out.RawCPU)
			} else {
				ours, err = s.round(ctx, s.daemon, m.order(p.time), &out.CPU)
			}
			if err != nil {
				return row{}, err
			}
		}
		out.add(limit, ours)
	}
	out.CPU /= answers(out.Ours)
	out.RawCPU /= answers(out.Raw)
	return out, nil
}

// round lets the client carry out an order and adds what CPU time the server
// used, in µs.
func (s *stage) round(ctx context.Context, server int, o order, used *float64) (result, error) {
	before := cpuTime(server)
	r, err := s.driver.ask(ctx, o)
	*used += float64((cpuTime(server) - before).Microseconds())
	return r, err
}
