package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cima-project/cima/rpc"
)

// upgrade installs a newer package over the one that runs.
func upgrade(ctx context.Context, w *world) error {
	return replaced(ctx, w, "cimad-next", "install")
}

// downgrade installs the original package again.
func downgrade(ctx context.Context, w *world) error {
	return replaced(ctx, w, "cimad", "install", "--allow-downgrades")
}

// replaced installs another version under load, and compares what callers saw
// with the log.
func replaced(ctx context.Context, w *world, deb string, how ...string) error {
	files, err := debs(deb)
	if err != nil {
		return err
	}
	bundle, err := hostEvidence(ctx, newNonce())
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
	pid := property(ctx, "cimad.service", "MainPID")
	listening := property(ctx, "cimad.socket", "ActiveEnterTimestampMonotonic")
	l := &load{}
	var took time.Duration
	s, err := l.during(ctx, func() error {
		start := time.Now()
		_, err := apt(ctx, append(how, files...)...)
		took = time.Since(start)
		return err
	})
	if err != nil {
		return err
	}
	if now := property(ctx, "cimad.service", "MainPID"); now == pid || now == "0" {
		return fmt.Errorf("the daemon must have changed: process %s, then %s", pid, now)
	}
	if now := property(ctx, "cimad.socket", "ActiveEnterTimestampMonotonic"); now != listening {
		return errors.New("the socket must listen all the time")
	}
	if err := consistent(ctx, first.Agent); err != nil {
		return err
	}
	after, err := readRuntimeLog()
	if err != nil {
		return err
	}
	w.note("apt took %.1f s; %d answers to clients and %d to bare connections, which were closed %d times, %d of them on requests that nobody had read; %d extends, %d of unknown outcome",
		took.Seconds(), l.answered.Load(), l.bare.Load(), l.closed.Load(), l.unread.Load(), len(s.extends.Done)+len(s.extends.Unknown), len(s.extends.Unknown))
	if l.closed.Load() == 0 || len(s.extends.Done) < 10 {
		return errors.New("there was no load")
	}
	return s.judge(after[len(before):], 1)
}

// load is the callers' activity meanwhile.
type load struct {
	answered, bare, closed, unread atomic.Int64
}

// during runs the load before, while and after f runs.
func (l *load) during(ctx context.Context, f func() error) (*storm, error) {
	loaded, stop := context.WithCancel(ctx)
	defer stop()
	s := &storm{}
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() { s.note("", l.clients(ctx, loaded)) })
		all.Go(func() { s.note("", l.connections(ctx, loaded)) })
	}
	input, end := io.Pipe()
	all.Go(func() {
		id, out, err := extender(ctx, input)
		s.note(id, errors.Join(err, json.Unmarshal(out, &s.extends)))
	})
	pause(ctx, 5*time.Second)
	err := f()
	pause(ctx, 2*time.Second)
	stop()
	end.Close()
	all.Wait()
	return s, errors.Join(append(s.errs, err)...)
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// clients calls with the Go client, and must see no error.
func (l *load) clients(ctx, loaded context.Context) error {
	c, err := client(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	for loaded.Err() == nil {
		if err := ask(ctx, func() error { _, err := c.GetMeasurements(ctx); return err }); err != nil {
			return fmt.Errorf("a client's call: %w", err)
		}
		l.answered.Add(1)
		pause(loaded, 10*time.Millisecond)
	}
	return nil
}

// extender runs a container that extends until its input ends.
func extender(ctx context.Context, input io.Reader) (id string, out []byte, err error) {
	if err := dockerd.image(ctx); err != nil {
		return "", nil, err
	}
	const name = "cima-vm-extender"
	args := dockerd.begin([]string{"-i", "--name", name, "-v", "/opt/vm/inside:/inside:ro"}, "/inside", "extend until end of input")
	c := dockerd.cmd(ctx, args...)
	var stdout, stderr bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = input, &stdout, &stderr
	if err = c.Run(); err != nil {
		err = fmt.Errorf("%w: %s", err, &stderr)
	}
	id, failed := finish(dockerd.cmd(ctx, "inspect", "--format", "{{.Id}}", name))
	_, left := finish(dockerd.cmd(ctx, "rm", "-f", name))
	return strings.TrimSpace(id), stdout.Bytes(), errors.Join(err, failed, left)
}

// extendUntil is the container's side.
func extendUntil(ctx context.Context, input io.Reader) error {
	ended := make(chan struct{})
	go func() {
		io.Copy(io.Discard, input)
		close(ended)
	}()
	return extendWhile(ctx, func(int) bool {
		select {
		case <-ended:
			return false
		case <-time.After(200 * time.Millisecond): // however long apt takes, a container's share of the log must do
			return true
		}
	})
}
