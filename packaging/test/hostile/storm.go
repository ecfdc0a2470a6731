package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cima-project/cima/packaging/test/engine"
)

// largeBytes is how much longer the entrypoint of a large image is.
const largeBytes = 255 << 20

// storm is what hostile containers do, as ATTACKS of SECURITY.md names it.
type storm struct {
	name  string
	image string   // its end
	words []string // of each container
	times int      // containers at once; 0: one
	users bool     // each as another uid
	again bool     // containers that end are started again
}

var storms = []storm{
	{name: "64 loops connect", words: []string{"/attacker", "connect", "waiting", "64"}},
	{name: "64 loops connect without waiting", words: []string{"/attacker", "connect", "failing", "64"}},
	{name: "64 loops connect as many uids", words: []string{"/attacker", "connect", "uids", "64"}},
	{name: "16 loops connect from new processes", words: []string{"/attacker", "connect", "processes", "16"}},
	{name: "1,000 connections are held half open", words: []string{"/attacker", "connect", "held", "1000"}},
	{name: "16 loops send what is refused", words: []string{"/attacker", "connect", "refused", "16"}},
	{name: "the runtime is executed 200 times at once", image: "-runtime", words: []string{"/run-me", "runtime", "200", "0"}},
	{name: "ten containers of ten uids execute the runtime 200 times at once", image: "-runtime", words: []string{"/run-me", "runtime", "200", "0"}, times: 10, users: true},
	{name: "a file under a write lease is executed", words: []string{"/attacker", "lease", "0"}},
	{name: "a file of 60 MB is executed and changed", words: []string{"/attacker", "execs", "60", "16", "0"}},
	{name: "a file of 8 MB is executed 200 times at once", words: []string{"/attacker", "execs", "8", "200", "0"}},
	{name: "8 containers with an entrypoint of 255 MB start at once", image: "-large", words: []string{"/attacker", "nothing"}, times: 8, again: true},
}

// result is what a bystander saw during a storm.
type result struct {
	call, connect, execute, evidence outcome
	starts                           map[string]int // by what the container said of its start
	messages                         int            // lines of the daemon's
	took                             time.Duration
	calm                             bool
	blown                            atomic.Int64 // hostile containers that were started
}

// endure runs a storm, and a bystander beside it.
func (s *stage) endure(ctx context.Context, e *engine.Engine, storm storm) (*result, error) {
	r := &result{starts: make(map[string]int), calm: storm.words == nil}
	b, err := s.bystander(ctx, e)
	if err != nil {
		return nil, err
	}
	defer b.end()
	begun, messages := time.Now(), s.messages()
	blowing, stop := context.WithCancel(ctx)
	var hostile errgroup.Group
	defer hostile.Wait()
	defer stop()
	if !r.calm {
		for n := range max(1, storm.times) {
			flags := []string{"--name", fmt.Sprintf("cima-hostile-%d-%d", begun.UnixNano(), n)}
			if storm.users {
				flags = append(flags, "--user", fmt.Sprint(1000+n))
			}
			hostile.Go(func() error { return s.blow(blowing, e, storm, flags, &r.blown) })
		}
		if err := pause(ctx, 2*time.Second); err != nil { // until it blows
			return nil, err
		}
	}
	var starting sync.WaitGroup
	starting.Go(func() {
		for range s.starts {
			r.starts[s.startOne(ctx, e)]++
		}
	})
	for _, o := range []struct {
		order
		into *outcome
	}{{order{"call", s.calls}, &r.call}, {order{"connect", s.connects}, &r.connect}, {order{"execute", 20}, &r.execute}, {order{"evidence", 5}, &r.evidence}} {
		if err := b.do(o.order, o.into); err != nil {
			return nil, err
		}
	}
	starting.Wait()
	stop()
	if err := hostile.Wait(); err != nil {
		return nil, err
	}
	r.took, r.messages = time.Since(begun), s.messages()-messages
	return r, nil
}

// blow runs a hostile container until ctx ends, and removes it then. The second of its flags
// is its name. A storm that ends by itself, or whose containers fail, is an error.
func (s *stage) blow(ctx context.Context, e *engine.Engine, storm storm, flags []string, started *atomic.Int64) error {
	for {
		started.Add(1)
		c := s.container(ctx, e, flags, append([]string{image + storm.image}, storm.words...)...)
		var said bytes.Buffer
		c.Stderr = &said
		err := c.Run()
		e.Command(context.WithoutCancel(ctx), "rm", "-f", flags[1]).Run()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("a hostile container: %w: %s", err, strings.TrimSpace(said.String()))
		case !storm.again:
			return errors.New("a hostile container ended")
		}
	}
}

// startOne starts a container, and returns what it says of its start.
func (s *stage) startOne(ctx context.Context, e *engine.Engine) string {
	c := s.container(ctx, e, nil, image, "/hostile", "whoami")
	out, err := c.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return "failed: " + strings.TrimSpace(string(exit.Stderr))
	}
	if err != nil {
		return "failed: " + err.Error()
	}
	return strings.TrimSpace(string(out))
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
	return ctx.Err()
}

// orders is a bystander that takes orders.
type orders struct {
	do  func(order, *outcome) error
	end func()
}

func (s *stage) bystander(ctx context.Context, e *engine.Engine) (*orders, error) {
	c := s.container(ctx, e, []string{"-i", "-v", echoes + ":" + echoes + ":ro"}, image, "/hostile", "bystander", "/run/cima")
	in, err1 := c.StdinPipe()
	out, err2 := c.StdoutPipe()
	var said bytes.Buffer
	c.Stderr = &said
	if err := errors.Join(err1, err2, c.Start()); err != nil {
		return nil, err
	}
	answers := bufio.NewScanner(out)
	return &orders{
		do: func(o order, into *outcome) error {
			text, err := json.Marshal(o)
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintf(in, "%s\n", text); err != nil {
				return fmt.Errorf("the bystander is gone: %w", err)
			}
			if !answers.Scan() {
				in.Close()
				return fmt.Errorf("the bystander ended: %w: %s", errors.Join(c.Wait(), answers.Err()), strings.TrimSpace(said.String()))
			}
			return json.Unmarshal(answers.Bytes(), into)
		},
		end: func() {
			in.Close()
			c.Wait()
		},
	}, nil
}

// The most lines that the daemon may write: ten of a kind at once and one a second, of
// some ten kinds, and two for each container that starts, also for a hostile one: only an
// engine starts it.
func (r *result) mostMessages(starts int) int {
	return 10*(11+int(r.took.Seconds())) + 2*(starts+int(r.blown.Load())) + 20
}

// ratio is how much longer a call takes than a bare round trip, at the 99th percentile.
func (r *result) ratio() float64 { return float64(r.call.P99) / float64(r.call.EchoP99) }

func (r *result) faults(p plan) (faults []string) {
	wrong := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	for name, o := range map[string]outcome{"calls": r.call, "connects": r.connect, "executions": r.execute, "evidences": r.evidence} {
		if o.Failed > 0 || o.Done == 0 {
			wrong("%d of %d %s failed: %s", o.Failed, o.Done+o.Failed, name, o.Error)
		}
	}
	for how, n := range r.starts {
		if how != "gated" {
			wrong("%d starts were %q", n, how)
		}
	}
	if most := r.mostMessages(p.starts); r.messages > most {
		wrong("%d messages in %v, must be %d at most", r.messages, r.took.Round(time.Second), most)
	}
	if p.times && r.ratio() > 3 {
		wrong("a call's p99 %v is %.1f times that of a bare round trip", time.Duration(r.call.P99), r.ratio())
	}
	return faults
}

func (r *result) String() string {
	return fmt.Sprintf("calls: p99 %v, %.1f times a bare one's %v; failed: %d calls, %d of %d connects, %d executions, %d evidences; %d of %d starts gated; %d messages in %v",
		time.Duration(r.call.P99).Round(time.Microsecond), r.ratio(), time.Duration(r.call.EchoP99).Round(time.Microsecond), r.call.Failed, r.connect.Failed,
		r.connect.Done+r.connect.Failed, r.execute.Failed, r.evidence.Failed, r.starts["gated"], r.total(), r.messages, r.took.Round(time.Second))
}

func (r *result) total() (n int) {
	for _, of := range r.starts {
		n += of
	}
	return n
}
