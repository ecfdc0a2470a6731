// Tls answers: how many sessions does a service prove itself in, and does anybody pass
// as it? It runs the daemon on a simulated TD that makes a quote a second, and containers
// that serve by `cimactl tls serve`, which it reaches by their Unix sockets.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/cima-project/cima/packaging/test/engine"
)

const greeting = "hello from the program\n"

func main() {
	switch {
	case len(os.Args) == 2 && os.Args[1] == "greet":
		exit(greet(os.NewFile(3, "listener")))
	case len(os.Args) == 3 && os.Args[1] == "keyed":
		exit(keyed(os.Args[2]))
	}
	var p plan
	flag.StringVar(&p.bin, "bin", "bin", "`DIR` of cimad-sim and cimactl")
	flag.IntVar(&p.workers, "workers", 600, "`N` clients at a time")
	flag.DurationVar(&p.load, "for", 20*time.Second, "`TIME` of the load")
	flag.IntVar(&p.attacks, "attacks", 10_000, "`N` sessions that must be refused")
	flag.BoolVar(&p.times, "times", false, "compare figures with the targets: the machine must do nothing else")
	flag.Parse()
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "tls: it runs containers\nhint: run it as root")
		os.Exit(2)
	}
	if err := engine.Alone(); err != nil {
		exit(err)
	}
	exit(p.run(context.Background()))
}

// plan is what a run does.
type plan struct {
	bin              string
	workers, attacks int
	load             time.Duration
	times            bool
}

func exit(err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "tls: %v\n", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func say(format string, args ...any) {
	fmt.Printf("%s "+format+"\n", append([]any{time.Now().Format("15:04:05")}, args...)...)
}

// greet is a service that knows nothing of CIMA.
func greet(f *os.File) error {
	l, err := net.FileListener(f)
	if err != nil {
		return err
	}
	return greetAll(l)
}

func greetAll(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			io.WriteString(c, greeting)
			c.Close()
		}()
	}
}

// run measures, then attacks.
func (p plan) run(ctx context.Context) error {
	s, err := p.open(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	wrong, err := s.measure(ctx)
	if err != nil {
		return fmt.Errorf("%w; messages are in %s", err, s.dir)
	}
	more, err := s.attack(ctx)
	if err != nil {
		return fmt.Errorf("%w; messages are in %s", err, s.dir)
	}
	for _, w := range append(wrong, more...) {
		say("WRONG: %s", w)
	}
	if n := len(wrong) + len(more); n > 0 {
		return fmt.Errorf("%d faults; messages are in %s", n, s.dir)
	}
	return os.RemoveAll(s.dir)
}
