// Spire answers: does SPIRE give each container the identity of its own launch, and no
// other? It runs spire-server and spire-agent with the plug-ins of packaging/spire, cimad
// on simulated TDs, and docker's containers that ask the Workload API, while daemons are
// killed, hang and are restarted.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/cima-project/cima/packaging/test/engine"
)

func main() {
	if len(os.Args) > 1 && inside(os.Args[1:]) {
		return
	}
	var p plan
	flag.StringVar(&p.bin, "bin", "bin", "`DIR` of cimad-sim, cimactl and cima-spire")
	flag.StringVar(&p.spire, "spire", "", "`DIR` of spire-server and spire-agent")
	flag.StringVar(&p.examples, "examples", "packaging/spire/examples", "`DIR` of configurations that SPIRE's programs must take")
	flag.IntVar(&p.many, "containers", 500, "`N` containers that start as fast as docker starts them")
	flag.Parse()
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "spire: it runs containers\nhint: run it as root")
		os.Exit(2)
	}
	if err := engine.Alone(); err != nil {
		exit(err)
	}
	exit(p.run(context.Background()))
}

// plan is what a run does.
type plan struct {
	bin, spire, examples string
	many                 int
}

func exit(err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "spire: %v\n", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func say(format string, args ...any) {
	fmt.Printf("%s "+format+"\n", append([]any{time.Now().Format("15:04:05")}, args...)...)
}

func (p plan) run(ctx context.Context) error {
	s, err := p.open(ctx)
	if err == nil {
		defer s.close()
		for _, part := range []func(context.Context) error{s.eachItsOwn, s.named, s.faults, s.reusedNumber, s.twoMachines, s.fast, s.neverWrong} {
			if err = part(ctx); err != nil {
				break
			}
		}
	}
	if err != nil {
		return fmt.Errorf("%w; messages are in %s", err, s.dir)
	}
	return os.RemoveAll(s.dir)
}
