package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

const (
	calls      = 1000
	kills      = 4
	containers = 4
)

// killed kills the daemon again and again while one container makes 1,000
// extends and others start. Extends are slow, so that kills interrupt them.
func killed(ctx context.Context, w *world) error {
	nonce := newNonce()
	bundle, err := hostEvidence(ctx, nonce)
	if err != nil {
		return err
	}
	_, first, err := rpc.DecodeEvidence(bundle)
	if err != nil {
		return err
	}
	before, err := readRuntimeLog()
	if err != nil {
		return err
	}
	var s storm
	if err := turned(map[string]int{"extend_delay_ms": 5}, func() error { return s.run(ctx) }); err != nil {
		return err
	}
	if state := property(ctx, "cimad.socket", "ActiveState"); state != "active" {
		return fmt.Errorf("cimad.socket is %s", state)
	}
	if err := consistent(ctx, first.Agent); err != nil {
		return err
	}
	after, err := readRuntimeLog()
	if err != nil {
		return err
	}
	return s.counted(w, after[len(before):])
}

// counted notes what was done, and judges the events that are new.
func (s *storm) counted(w *world, events []logs.Event) error {
	w.note("%d extends, %d of them of unknown outcome to their caller, %d kills, %d containers, %d new events",
		calls, len(s.extends.Unknown), kills, len(s.ids), len(events))
	if n := len(s.extends.Done) + len(s.extends.Unknown); n != calls {
		return fmt.Errorf("%d of %d extends were made", n, calls)
	}
	return s.judge(events, kills)
}

// storm is the load while the daemon is killed.
type storm struct {
	mu      sync.Mutex
	errs    []error
	ids     []string // of all containers
	extends extended
}

// extended is what the caller of the extends knows of them.
type extended struct {
	Done    []int // answered
	Unknown []int // the connection ended before the answer
}

func (s *storm) note(id string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.errs = append(s.errs, err)
	if id != "" {
		s.ids = append(s.ids, id)
	}
}

func (s *storm) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all sync.WaitGroup
	all.Go(func() {
		out, id, err := dockerd.start(ctx, "", []string{"-v", "/opt/vm/inside:/inside:ro"}, "/inside", "extend")
		s.note(id, errors.Join(err, json.Unmarshal([]byte(out), &s.extends)))
	})
	all.Go(func() {
		for range containers {
			_, id, err := rootful.start(ctx, "", nil, "/bin/sh", "-c", patient)
			s.note(id, err)
		}
	})
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	n := s.kill(ctx, done)
	<-done
	if n < kills {
		s.errs = append(s.errs, fmt.Errorf("the load ended after %d of %d kills", n, kills))
	}
	return errors.Join(s.errs...)
}

// kill kills a daemon that runs and has logged its start, until it has done so
// often enough or the load has ended.
func (s *storm) kill(ctx context.Context, done <-chan struct{}) (n int) {
	for n < kills {
		select {
		case <-done:
			return n
		case <-time.After(2*time.Second + time.Duration(n)*300*time.Millisecond):
		}
		if property(ctx, "cimad.service", "SubState") != "running" {
			continue
		}
		_, err := command(ctx, "systemctl", "kill", "-s", "KILL", "cimad.service")
		s.note("", err)
		n++
	}
	return n
}

// patient repeats the call until it is answered: the daemon may be down for a
// moment.
const patient = `for i in 1 2 3 4 5 6 7 8 9 10; do /cimactl measurements && exit 0; /bin/busybox sleep 1; done; exit 1`

// extendMany is the container's side.
func extendMany(ctx context.Context) error {
	return extendWhile(ctx, func(made int) bool { return made < calls })
}

// extendWhile extends until its input ends, makes no call twice, and prints the
// outcome of the calls.
func extendWhile(ctx context.Context, more func(made int) bool) error {
	c, err := client(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	var e extended
	for i := 0; more(i); i++ {
		err := ask(ctx, func() error {
			_, err := c.ExtendMeasurement(ctx, rpc.ExtendParams{Domain: "vm", Operation: "call", Content: strconv.Itoa(i)})
			return err
		})
		switch {
		case err == nil:
			e.Done = append(e.Done, i)
		case errors.Is(err, rpc.ErrUnknownOutcome):
			e.Unknown = append(e.Unknown, i)
		default:
			return fmt.Errorf("extend %d: %w", i, err)
		}
	}
	return json.NewEncoder(os.Stdout).Encode(e)
}

// consistent checks that log, kernel and quote agree, and that evidence is
// signed with the same key as before.
func consistent(ctx context.Context, agent rpc.Digest) error {
	nonce := newNonce()
	bundle, err := hostEvidence(ctx, nonce)
	if err != nil {
		return err
	}
	if _, err := appraise(ctx, bundle, nonce); err != nil {
		return err
	}
	e, claims, err := rpc.DecodeEvidence(bundle)
	if err != nil {
		return err
	}
	if claims.Agent != agent {
		return fmt.Errorf("the agent's key is %v, and must still be %v", claims.Agent, agent)
	}
	return (&given{evidence: e}).agrees(ctx)
}

// judge checks the events. The daemon started that often. Each container was
// launched, and its image measured, once. Each acknowledged extend is in the
// log once, and none twice. A launch may be there once more if a kill hit a
// container in the gate: the next daemon can't know whether the runtime waited
// for it, and measures what it sees.
func (s *storm) judge(events []logs.Event, starts int) error {
	seen := map[string]int{}
	for _, e := range events {
		key := e.Operation + " " + e.Container
		switch e.Operation {
		case logs.OpStart:
			key = e.Operation
		case logs.OpExtend:
			var body rpc.ExtendParams
			if err := json.Unmarshal(e.Body(), &body); err != nil {
				return err
			}
			key = e.Operation + " " + body.Content
		}
		seen[key]++
	}
	want := map[string]int{logs.OpStart: starts}
	met := 0
	for _, id := range s.ids {
		want[logs.OpLaunch+" "+id], want[logs.OpImage+" "+id] = 1, 1
		if launches := seen[logs.OpLaunch+" "+id]; launches > 1 && met+launches-1 <= starts {
			met += launches - 1
			want[logs.OpLaunch+" "+id] = launches
		}
	}
	for _, i := range s.extends.Done {
		want[logs.OpExtend+" "+strconv.Itoa(i)] = 1
	}
	var errs []error
	for key, n := range want {
		if seen[key] != n {
			errs = append(errs, fmt.Errorf("%d events %q, must be %d", seen[key], key, n))
		}
	}
	for _, i := range s.extends.Unknown {
		if n := seen[logs.OpExtend+" "+strconv.Itoa(i)]; n > 1 {
			errs = append(errs, fmt.Errorf("extend %d, of unknown outcome, is in the log %d times, must be at most once", i, n))
		}
	}
	return errors.Join(errs...)
}
