// Bench answers: how fast is the daemon, compared with the limit of a socket
// and with other designs? It starts a simulated TD, the real daemon, a server
// that echoes single bytes and a gRPC service like CIMA 0.5's, each in its own
// process, drives them in turn with one and the same client, in a container of
// a dockerd of its own if docker is installed, and reports ratios.
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

	"github.com/cima-project/cima/packaging/test/engine"
)

func main() {
	if len(os.Args) == 4 && os.Args[1] == "raw" {
		fail(rawServer(os.Args[2]))
	}
	if len(os.Args) == 4 && os.Args[1] == "grpc" {
		fail(grpcServer(os.Args[2], os.Args[3]))
	}
	if len(os.Args) == 2 && os.Args[1] == "client" {
		fail(client(os.Stdin, os.Stdout))
	}
	var p plan
	flag.StringVar(&p.bin, "bin", "bin", "`DIR` of cimad-sim")
	flag.StringVar(&p.out, "out", ".cache/bench", "`DIR` that bench.md, bench.json and plots are written to")
	flag.IntVar(&p.rounds, "rounds", 15, "`N` rounds of each measurement")
	flag.DurationVar(&p.time, "time", 400*time.Millisecond, "`TIME` of a round")
	flag.BoolVar(&p.host, "host", false, "call from this machine itself, also where docker is installed")
	flag.StringVar(&p.only, "only", "", "measure only what has `TEXT` in its name")
	flag.DurationVar(&p.hold, "hold", 0, "drive the daemon for `TIME` and measure nothing: a profiler may look at it")
	flag.StringVar(&p.ccel, "ccel", "", "boot log `FILE` that is replayed; the simulated TD's without it")
	names := flag.String("parts", "parse,calls,log,scale", "`PARTS` of the bench, with commas between")
	short := flag.Bool("short", false, "a short form: 3 rounds of 200 ms, and 20,000 events for a million")
	strict := flag.Bool("strict", false, "exit with 1 if a target is missed")
	flag.Parse()
	if err := engine.Alone(); err != nil {
		say("no engine of its own: %v", err)
	}
	p.many, p.crowd = 1_000_000, 1000
	if *short {
		p.rounds, p.time, p.many, p.crowd = 3, 200*time.Millisecond, 20_000, 50
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	met, err := p.run(ctx, strings.Split(*names, ","))
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

// plan is what to measure, and how often.
type plan struct {
	bin, out    string
	rounds      int
	time        time.Duration
	host        bool
	only        string
	hold        time.Duration
	ccel        string
	many, crowd int // events and containers of the largest daemon
}

// run measures all parts and reports whether every target was met. Results of
// other parts from an earlier run stay in the report.
func (p plan) run(ctx context.Context, names []string) (met bool, err error) {
	r := readReport(p.out)
	for _, name := range names {
		measure, ok := parts[name]
		if !ok {
			return false, fmt.Errorf("unknown part %q: must be parse, calls, log or scale", name)
		}
		part := &part{Begun: time.Now().UTC(), Rounds: p.rounds, Time: p.time.String(), LoadBefore: load()}
		if err := measure(ctx, p, part); err != nil {
			return false, fmt.Errorf("%s: %w", name, err)
		}
		part.LoadAfter = load()
		if len(part.Rows) > 0 {
			r.Parts[name] = part
		}
	}
	if p.hold > 0 {
		return true, nil
	}
	fmt.Print(r.markdown())
	return r.met(), r.write(filepath.Clean(p.out))
}

// parts are the pieces that can be measured one by one.
var parts = map[string]func(context.Context, plan, *part) error{
	"parse": parseLogs, "calls": calls, "log": wholeLog, "scale": scale,
}
