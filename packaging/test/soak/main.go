// Soak answers: does it hold? For a while it starts and ends containers, lets
// callers misbehave, engines vanish and hardware fail, and kills and upgrades
// the daemon. It checks all the time that every answer is true and that nothing
// is lost, logged twice or left behind. It removes everything that it made.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/cima-project/cima/packaging/test/engine"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == "caller" {
		os.Exit(caller(os.Args[2], os.Stdin, os.Stdout))
	}
	var p plan
	flag.StringVar(&p.bin, "bin", "bin", "`DIR` of cimad-sim")
	flag.StringVar(&p.old, "old", "", "`FILE`: a cimad-sim of evidence profile v1, with which each boot begins")
	flag.DurationVar(&p.time, "time", 10*time.Minute, "`TIME` that it takes")
	flag.Uint64Var(&p.seed, "seed", 0, "`SEED` of what happens; 0: a new one, which is printed")
	flag.IntVar(&p.workers, "workers", 6, "`N` containers at once")
	flag.BoolVar(&p.engines, "engines", true, "run containers by docker and podman too, where they are")
	flag.Parse()
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "soak: it makes cgroups and records as engines do\nhint: run it as root")
		os.Exit(2)
	}
	if err := engine.Alone(); err != nil {
		fmt.Fprintf(os.Stderr, "soak: %v\n", err)
		os.Exit(1)
	}
	if p.seed == 0 {
		p.seed = rand.Uint64()>>1 + 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	violations, err := p.run(ctx)
	stop()
	switch {
	case err != nil:
		fmt.Fprintf(os.Stderr, "soak: %v\n", err)
		os.Exit(1)
	case violations > 0:
		fmt.Fprintf(os.Stderr, "soak: %d violations; repeat with -seed %d\n", violations, p.seed)
		os.Exit(1)
	}
}

func say(format string, args ...any) {
	fmt.Printf("%s "+format+"\n", append([]any{time.Now().Format("15:04:05")}, args...)...)
}

// plan is the options of a run.
type plan struct {
	bin     string
	old     string
	time    time.Duration
	seed    uint64
	workers int
	engines bool
}

// bootTime is about how long a boot of the simulated TD lasts: the log of a
// boot only grows, and so does the cost of each evidence.
const bootTime = 150 * time.Second

func (p plan) run(ctx context.Context) (violations int, err error) {
	boots := max(1, int((p.time+bootTime/2)/bootTime))
	say("soak: %v in %d boots, seed %d", p.time, boots, p.seed)
	dir, err := os.MkdirTemp("/tmp", "cimas")
	if err != nil {
		return 0, err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // containers enter as any uid
		return 0, err
	}
	t := newTally()
	for n := range boots {
		rnd := rand.New(rand.NewPCG(p.seed, uint64(n)))
		b := &boot{plan: p, number: n + 1, dir: filepath.Join(dir, fmt.Sprint(n)), tally: t, random: rnd}
		if err := b.run(ctx, p.time/time.Duration(boots)); err != nil && ctx.Err() == nil {
			t.violate("boot %d: %v", n+1, err)
		}
		if ctx.Err() != nil || t.violations() > maxViolations {
			break
		}
	}
	if ctx.Err() == nil {
		t.sawAll(p.time)
	}
	fmt.Print(t.summary())
	if n := t.violations(); n > 0 {
		say("what is left of it lies in %s", dir)
		return n, nil
	}
	if ctx.Err() != nil {
		return 0, fmt.Errorf("interrupted; %w", os.RemoveAll(dir))
	}
	return 0, os.RemoveAll(dir)
}
