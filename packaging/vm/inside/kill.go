package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

const (
	calls      = 1000
	callers    = 4
	kills      = 4
	containers = 6
)

// killed kills the daemon again and again while 1,000 calls are made and
// containers start, with extends made slow so that kills meet them.
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
	var ids []string
	err = turned(map[string]int{"extend_delay_ms": 200}, func() (err error) {
		ids, err = storm(ctx)
		return err
	})
	if err != nil {
		return err
	}
	if state := property(ctx, "cimad.socket", "ActiveState"); state != "active" {
		return fmt.Errorf("cimad.socket is %s", state)
	}
	if err := settled(ctx, first.Agent); err != nil {
		return err
	}
	after, err := readRuntimeLog()
	if err != nil {
		return err
	}
	starts, err := onceEach(after[len(before):], ids)
	w.note("%d calls, %d kills, %d containers, %d new events, %d of them starts", calls, kills, len(ids), len(after)-len(before), starts)
	return err
}

// storm makes the calls, starts the containers and kills the daemon, and
// returns the containers' ids.
func storm(ctx context.Context) (ids []string, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var left atomic.Int64
	left.Store(calls)
	var mu sync.Mutex
	var errs []error
	var all sync.WaitGroup
	report := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		errs = append(errs, err)
	}
	for range callers {
		all.Go(func() { report(callMany(ctx, &left)) })
	}
	for i := range 2 {
		all.Go(func() {
			for range containers / 2 {
				e := []engine{dockerd, rootful}[i]
				_, id, err := e.start(ctx, "", nil, "/bin/sh", "-c", patient)
				report(err)
				mu.Lock()
				ids = append(ids, id)
				mu.Unlock()
			}
		})
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	for n := 0; ; {
		select {
		case <-done:
			if n < kills {
				errs = append(errs, fmt.Errorf("all was done after %d of %d kills", n, kills))
			}
			return ids, errors.Join(errs...)
		case <-time.After(500 * time.Millisecond):
		}
		// Only a daemon that runs can be killed, and it has logged its start.
		if n == kills || property(ctx, "cimad.service", "SubState") != "running" {
			continue
		}
		time.Sleep(time.Duration(n) * 300 * time.Millisecond) // it is at something else each time
		if _, err := command(ctx, "systemctl", "kill", "-s", "KILL", "cimad.service"); err != nil {
			report(err)
		}
		n++
	}
}

// patient asks until it is answered: the daemon may be dead for a moment.
const patient = `for i in 1 2 3 4 5 6 7 8 9 10; do /cimactl measurements && exit 0; /bin/busybox sleep 1; done; exit 1`

func callMany(ctx context.Context, left *atomic.Int64) error {
	c, err := client(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	for left.Add(-1) >= 0 {
		time.Sleep(150 * time.Millisecond) // else all were made before the second kill
		if err := ask(ctx, func() error { _, err := c.GetMeasurements(ctx); return err }); err != nil {
			return err
		}
	}
	return nil
}

// settled says that log, kernel and quote agree, and that evidence is signed
// by the key that it was signed by before.
func settled(ctx context.Context, agent rpc.Digest) error {
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
		return fmt.Errorf("the agent's key is %v, was %v: it did not outlive the kills", claims.Agent, agent)
	}
	return (&given{evidence: e}).agrees(ctx)
}

// onceEach says that each container was launched and its image measured once.
func onceEach(events []logs.Event, ids []string) (starts int, err error) {
	seen := map[string]int{}
	for _, e := range events {
		if e.Operation == logs.OpStart {
			starts++
		}
		seen[e.Operation+" "+e.Container]++
	}
	for _, id := range ids {
		for _, operation := range []string{logs.OpLaunch, logs.OpImage} {
			if n := seen[operation+" "+id]; n != 1 {
				return starts, fmt.Errorf("%d %s events of container %s", n, operation, id)
			}
		}
	}
	if starts != kills {
		return starts, fmt.Errorf("%d start events for %d kills", starts, kills)
	}
	return starts, nil
}
