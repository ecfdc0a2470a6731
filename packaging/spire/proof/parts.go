package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// eachItsOwn: two containers of one image, whose lines differ in a word, get their own
// identities, and a third gets none.
func (s *stage) eachItsOwn(ctx context.Context) error {
	m := s.machines[0]
	for _, name := range []string{"a", "b"} {
		if _, err := s.known(ctx, m, name, "stay", name); err != nil {
			return err
		}
	}
	third, err := s.container(ctx, m, "", "stay", "c")
	if err != nil {
		return err
	}
	for id, identity := range s.expected {
		if identity != "" {
			if err := s.until(ctx, id, "SVID "+identity, 0); err != nil {
				return err
			}
		}
	}
	if err := s.until(ctx, third, "none: ", 2); err != nil {
		return err
	}
	say("each its own: a and b have their SVIDs, c has none: %s", s.lines(ctx, third)[0])
	return nil
}

// named: a container has the identity of an alternative of a policy, as long as the policy
// allows the container's power and nothing revokes its launch.
func (s *stage) named(ctx context.Context) error {
	m := s.machines[0]
	id, err := s.container(ctx, m, "named", "stay", "named")
	if err != nil {
		return err
	}
	who, _, err := s.look(ctx, m, id)
	if err != nil {
		return err
	}
	launch := who.Container.LaunchDigest.String()
	if err := s.create("named", "cima:policy:shop"); err != nil {
		return err
	}
	for _, c := range []struct{ power, more, want, because string }{
		{`"host-read"`, "", "SVID ", "the policy names its launch"},
		{"", "", "none: ", "the policy no longer allows its power"},
		{`"host-read"`, "", "SVID ", "it does again"},
		{`"host-read"`, fmt.Sprintf("[[revoked]]\ndigest = %q\nwhy = \"the proof\"\n", launch), "none: ", "its launch is revoked"},
		{`"host-read"`, "", "SVID ", "it is no longer"},
	} {
		if err := s.names(launch, c.power, c.more); err != nil {
			return err
		}
		if err := s.until(ctx, id, c.want, len(s.lines(ctx, id))+1); err != nil {
			return fmt.Errorf("%s: %w", c.because, err)
		}
		say("policy:shop: %s: %s", c.because, strings.TrimSpace(c.want))
	}
	return nil
}

// faults: daemons are killed, hang and come again; whoever had an identity gets it again.
// What happens to cimad is last: what it didn't see meanwhile is an event that the policy of
// nodes forbids, so that an agent which must be attested anew is refused from then on.
func (s *stage) faults(ctx context.Context) error {
	m := s.machines[0]
	for _, fault := range []struct {
		name string
		do   func() error
	}{
		{"agent killed", func() error { end(m.node, syscall.SIGKILL); return s.startAgent(m) }},
		{"agent restarted", func() error { end(m.node, syscall.SIGTERM); return s.startAgent(m) }},
		{"server restarted", func() error { end(s.server, syscall.SIGTERM); return s.startServer() }},
		{"server and agent restarted", func() error {
			end(m.node, syscall.SIGTERM)
			end(s.server, syscall.SIGTERM)
			if err := s.startServer(); err != nil {
				return err
			}
			return s.startAgent(m)
		}},
		{"cimad killed", func() error {
			end(m.daemon, syscall.SIGKILL)
			time.Sleep(3 * time.Second)
			return s.startDaemon(m)
		}},
		{"cimad hung for 10 s", func() error {
			if err := m.daemon.Process.Signal(syscall.SIGSTOP); err != nil {
				return err
			}
			time.Sleep(10 * time.Second)
			return m.daemon.Process.Signal(syscall.SIGCONT)
		}},
	} {
		begun := time.Now()
		if err := fault.do(); err != nil {
			return fmt.Errorf("%s: %w", fault.name, err)
		}
		for id, identity := range s.expected {
			if identity == "" {
				continue
			}
			if err := s.until(ctx, id, "SVID ", len(s.lines(ctx, id))); err != nil {
				return fmt.Errorf("%s: %w", fault.name, err)
			}
		}
		say("%s: a and b have their SVIDs again after %v in all", fault.name, time.Since(begun).Round(100*time.Millisecond))
	}
	return nil
}

// reusedNumber: a process of container "lend" connects to the Workload API and dies, its
// number goes to a process of container "a", and then the connection is used.
func (s *stage) reusedNumber(ctx context.Context) error {
	m := s.machines[0]
	var victim string
	for id, identity := range s.expected {
		if identity == "spiffe://cima.test/a" {
			victim = id
		}
	}
	_, victimPID, err := s.look(ctx, m, victim)
	if err != nil {
		return err
	}
	// Lent by one who lives, the connection is answered: the agent knows who connected.
	living, err := s.container(ctx, m, "", "lend")
	if err != nil {
		return err
	}
	if err := s.until(ctx, living, "lent", 0); err != nil {
		return err
	}
	_, pid, err := s.look(ctx, m, living)
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGUSR2); err != nil {
		return err
	}
	if err := s.until(ctx, living, "none: rpc error: code = PermissionDenied desc = no identity issued", 0); err != nil {
		return err
	}
	for range 3 {
		lender, err := s.container(ctx, m, "", "lend")
		if err != nil {
			return err
		}
		if err := s.until(ctx, lender, "lent", 0); err != nil {
			return err
		}
		_, pid, err := s.look(ctx, m, lender)
		if err != nil {
			return err
		}
		child := childOf(pid)
		if child == 0 {
			return fmt.Errorf("process %d has no child", pid)
		}
		if err := syscall.Kill(pid, syscall.SIGUSR1); err != nil {
			return err
		}
		if err := s.until(ctx, lender, "gone", 0); err != nil {
			return err
		}
		tries, reused := 0, false
		for ; tries < 400 && !reused; tries++ {
			if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", fmt.Append(nil, child-1), 0); err != nil {
				return err
			}
			if err := syscall.Kill(victimPID, syscall.SIGUSR1); err != nil {
				return err
			}
			time.Sleep(30 * time.Millisecond)
			reused = childOf(victimPID) == child
		}
		if !reused {
			continue
		}
		if err := syscall.Kill(pid, syscall.SIGUSR2); err != nil {
			return err
		}
		if err := s.until(ctx, lender, "used", 0); err != nil {
			return err
		}
		got := s.lines(ctx, lender)
		if slices.ContainsFunc(got, func(l string) bool { return strings.HasPrefix(l, "SVID") }) {
			return fmt.Errorf("a reused number has an identity: %q", got)
		}
		say("reused number: process %d of container lend died, %d is of container a after %d tries; who used the connection got %q", child, child, tries, got[len(got)-2])
		return nil
	}
	return fmt.Errorf("no number was reused")
}

// childOf is the number of a process's child; 0: none.
func childOf(pid int) int {
	all, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range all {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		if f := strings.Fields(rest); len(f) > 1 && f[0] != "Z" && f[1] == strconv.Itoa(pid) {
			n, _ := strconv.Atoi(strings.Split(path, "/")[2])
			return n
		}
	}
	return 0
}

// twoMachines: a container of one TD and a container of the other speak by mutual TLS, and
// a third, with an identity of its own, is refused.
func (s *stage) twoMachines(ctx context.Context) error {
	one, two := s.machines[0], s.machines[1]
	greeter, err := s.known(ctx, one, "greeter", "serve")
	if err != nil {
		return err
	}
	if err := s.until(ctx, greeter, "serving", 0); err != nil {
		return err
	}
	for _, c := range []struct{ name, word, want string }{{"caller", "x", "heard hello, caller"}, {"stranger", "y", "refused: "}} {
		id, err := s.known(ctx, two, c.name, "dial", c.word)
		if err != nil {
			return err
		}
		if err := s.until(ctx, id, c.want, 0); err != nil {
			return err
		}
		say("mutual TLS: %s, on the other machine: %s", c.name, s.lines(ctx, id)[0])
	}
	return nil
}

// fast: as many containers as docker starts, and each is served. On a busy machine cimad
// may judge a start too late. Then the container's start is "observed", its entry asks for
// "gated", and so it must get nothing; neverWrong, the last part, fails for such.
func (s *stage) fast(ctx context.Context) error {
	if s.many == 0 {
		return nil
	}
	m := s.machines[0]
	if _, err := s.known(ctx, m, "many", "once"); err != nil {
		return err
	}
	time.Sleep(6 * time.Second) // the agent learns entries every 5 s
	begun := time.Now()
	var all sync.WaitGroup
	slots, ids, failed := make(chan struct{}, 8), make(chan string, s.many), make(chan error, s.many)
	for range s.many {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			id, err := s.container(ctx, m, "many", "once")
			if err != nil {
				failed <- err
				return
			}
			ids <- id
		})
	}
	all.Wait()
	started := time.Since(begun)
	close(ids)
	close(failed)
	for err := range failed {
		return fmt.Errorf("docker didn't start one: %w", err)
	}
	var took []int
	for id := range ids {
		if s.observed(ctx, m, id) {
			s.late++
			s.expected[id] = ""
			continue
		}
		if err := s.until(ctx, id, "took ", 0); err != nil {
			return err
		}
		for _, l := range s.lines(ctx, id) {
			if text, ok := strings.CutPrefix(l, "took "); ok {
				n, _ := strconv.Atoi(text)
				took = append(took, n)
			}
		}
	}
	slices.Sort(took)
	if len(took) == 0 {
		return fmt.Errorf("all %d containers were judged too late", s.many)
	}
	say("fast: docker started %d containers in %v, %.1f a second; %d have their SVID, after %d ms (median), %d ms (99 %%), %d ms (the last)",
		s.many, started.Round(time.Second), float64(s.many)/started.Seconds(), len(took), took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
	return nil
}

// observed reports whether a container asks in vain because its start was judged too late.
func (s *stage) observed(ctx context.Context, m *machine, id string) bool {
	if slices.ContainsFunc(s.lines(ctx, id), func(l string) bool { return strings.HasPrefix(l, "took ") }) {
		return false
	}
	who, _, _ := s.look(ctx, m, id)
	return who.Container != nil && who.Container.ID == id && who.Container.Assurance.Start == "observed"
}

// neverWrong reads all that all containers got in all parts.
func (s *stage) neverWrong(ctx context.Context) error {
	svids, refused := 0, 0
	for id, identity := range s.expected {
		for _, l := range s.lines(ctx, id) {
			got, ok := strings.CutPrefix(l, "SVID ")
			switch {
			case ok && (identity == "" || got != identity):
				return fmt.Errorf("container %.12s may have %q and got %q", id, identity, got)
			case ok:
				svids++
			case strings.HasPrefix(l, "none: "):
				refused++
			}
		}
	}
	say("never wrong: %d containers got %d SVIDs, each their own, and none %d times", len(s.expected), svids, refused)
	if s.late > 0 {
		return fmt.Errorf("%d of %d containers were judged too late and got nothing, as they must: is this machine busy?", s.late, s.many)
	}
	return nil
}
