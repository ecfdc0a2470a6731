package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/cima-project/cima/rpc/atls"
)

// Targets on two processors that do nothing else.
const (
	leastRate = 250
	mostP99   = 3 * time.Second
)

// session opens one, and reads what the program says.
func session(ctx context.Context, d *atls.Dialer, at string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	c, err := d.DialContext(ctx, "unix", at)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	text, err := io.ReadAll(c)
	if err == nil && string(text) != greeting {
		err = fmt.Errorf("the program said %q", text)
	}
	return err
}

// measure counts the sessions of one service under load.
func (s *stage) measure(ctx context.Context) (wrong []string, err error) {
	d := &atls.Dialer{Appraiser: s.appraiser("one")}
	if err := session(ctx, d, s.at["one"]); err != nil {
		return nil, fmt.Errorf("one session: %w", err)
	}
	var mu sync.Mutex
	var took []time.Duration
	failed := map[string]int{}
	began := time.Now()
	var all sync.WaitGroup
	for range s.workers {
		all.Go(func() {
			for time.Since(began) < s.load {
				at := time.Now()
				err := session(ctx, d, s.at["one"])
				mu.Lock()
				if err != nil {
					failed[err.Error()]++
				} else {
					took = append(took, time.Since(at))
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	rate := float64(len(took)) / time.Since(began).Seconds()
	slices.Sort(took)
	if len(took) == 0 {
		return nil, fmt.Errorf("no session in %v: %v", s.load, failed)
	}
	p99 := took[len(took)*99/100]
	say("%d clients: %d sessions, %.0f a second, p50 %v, p99 %v, %d kinds of failures", s.workers, len(took), rate,
		took[len(took)/2].Round(time.Millisecond), p99.Round(time.Millisecond), len(failed))
	for f, n := range failed {
		wrong = append(wrong, fmt.Sprintf("%d sessions failed: %s", n, f))
	}
	if s.times && rate < leastRate {
		wrong = append(wrong, fmt.Sprintf("%.0f sessions a second, want %d", rate, leastRate))
	}
	if s.times && p99 > mostP99 {
		wrong = append(wrong, fmt.Sprintf("p99 is %v, want %v", p99, mostP99))
	}
	return wrong, nil
}
