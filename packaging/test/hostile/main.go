// Hostile answers: does one hostile container harm its neighbours? It runs the daemon on
// a simulated TD, hostile containers of each kind by docker and podman, one after the
// other, and beside each a bystander: its calls take not much longer than a bare
// round trip does under the same storm, its connects don't fail, its evidence is given,
// containers that start are gated, and the journal isn't flooded.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"

	"github.com/cima-project/cima/packaging/test/engine"
)

func main() {
	switch {
	case len(os.Args) == 3 && os.Args[1] == "bystander":
		os.Exit(bystander(os.Args[2], os.Stdin, os.Stdout))
	case len(os.Args) == 3 && os.Args[1] == "echo":
		os.Exit(echo(os.Args[2]))
	case len(os.Args) == 2 && os.Args[1] == "whoami":
		os.Exit(whoAmI(os.Stdout))
	}
	p := plan{}
	only := ""
	flag.StringVar(&p.bin, "bin", "bin", "`DIR` of cimad-sim")
	flag.IntVar(&p.calls, "calls", 2000, "`N` calls of the bystander under each storm")
	flag.IntVar(&p.connects, "connects", 1000, "`N` connects of the bystander")
	flag.IntVar(&p.starts, "starts", 6, "`N` containers that start")
	flag.BoolVar(&p.times, "times", false, "compare times: the machine must do nothing else")
	flag.StringVar(&only, "only", ".", "`REGEXP` of storms")
	flag.Parse()
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "hostile: it runs containers\nhint: run it as root")
		os.Exit(2)
	}
	if err := engine.Alone(); err != nil {
		fmt.Fprintf(os.Stderr, "hostile: %v\n", err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if p.only, err = regexp.Compile(only); err == nil {
		err = p.run(ctx)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "hostile: %v\n", err)
		os.Exit(1)
	}
}

// plan is what a run does.
type plan struct {
	bin                     string
	calls, connects, starts int
	times                   bool
	only                    *regexp.Regexp
}

func say(format string, args ...any) {
	fmt.Printf("%s "+format+"\n", append([]any{time.Now().Format("15:04:05")}, args...)...)
}

// run runs each storm by each engine.
func (p plan) run(ctx context.Context) error {
	s, err := p.open(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	wrong, done := 0, 0
	for _, e := range s.engines {
		for _, storm := range append([]storm{{name: "calm"}}, storms...) {
			name := e.Name + ", " + storm.name
			if !p.only.MatchString(name) || ctx.Err() != nil {
				continue
			}
			r, err := s.endure(ctx, e, storm)
			if err != nil {
				return fmt.Errorf("%s: %w; the daemon's messages are in %s", name, err, s.log)
			}
			done++
			faults := r.faults(p)
			say("%s: %s", name, r)
			for _, f := range faults {
				say("WRONG: %s: %s", name, f)
			}
			wrong += len(faults)
		}
	}
	say("%d storms, %d faults", done, wrong)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case wrong > 0:
		return fmt.Errorf("%d faults; the daemon's messages are in %s", wrong, s.log)
	case done == 0:
		return fmt.Errorf("no storm matches %s", p.only)
	}
	return os.RemoveAll(s.dir)
}
