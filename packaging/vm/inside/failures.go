package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/rpc"
)

func errnoName(errno syscall.Errno) string { return unix.ErrnoName(errno) }

func quoteErrors(ctx context.Context, w *world) error {
	for _, errno := range []syscall.Errno{syscall.EBUSY, syscall.ETIMEDOUT, syscall.EIO} {
		err := turned(map[string]int{"quote_errno": int(errno), "quote_fails": 1}, func() error {
			_, err := hostEvidence(ctx, newNonce())
			return wireError(err, rpc.CodeTEEUnavailable, errno)
		})
		if err == nil {
			err = goodHostEvidence(ctx)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", errnoName(errno), err)
		}
	}
	return nil
}

func quoteEmpty(ctx context.Context, w *world) error {
	err := turned(map[string]int{"quote_empties": 1}, func() error {
		_, err := hostEvidence(ctx, newNonce())
		return wireError(err, rpc.CodeTEEUnavailable, 0)
	})
	if err != nil {
		return err
	}
	return goodHostEvidence(ctx)
}

// quoteSlow asks for a quote that takes a second, as the real driver's, and
// for other things meanwhile.
func quoteSlow(ctx context.Context, w *world) error {
	return turned(map[string]int{"quote_delay_ms": 1000}, func() error {
		start := time.Now()
		done := make(chan error, 1)
		go func() { done <- goodHostEvidence(ctx) }()
		c, err := client(ctx)
		if err != nil {
			return err
		}
		defer c.Close()
		calls := 0
		for {
			select {
			case err := <-done:
				took := time.Since(start)
				w.note("%d calls of others in %.1f s, appraisal included", calls, took.Seconds())
				if took < time.Second || calls < 5 {
					return fmt.Errorf("the quote took %v, and %d calls were answered meanwhile: %w", took, calls, err)
				}
				return err
			default:
			}
			if err := ask(ctx, func() error { _, err := c.GetMeasurements(ctx); return err }); err != nil {
				return err
			}
			calls++
		}
	})
}

// quoteLapped writes into the daemon's own configfs entry while its quote is
// made.
func quoteLapped(ctx context.Context, w *world) error {
	err := turned(map[string]int{"quote_delay_ms": 2000}, func() error {
		done := make(chan error, 1)
		go func() {
			_, err := hostEvidence(ctx, newNonce())
			done <- err
		}()
		if err := lap(ctx); err != nil {
			return errors.Join(err, <-done)
		}
		return wireError(<-done, rpc.CodeTEEUnavailable, syscall.EBUSY)
	})
	if err != nil {
		return err
	}
	return goodHostEvidence(ctx)
}

func lap(ctx context.Context) error {
	for ctx.Err() == nil {
		entries, err := filepath.Glob(reports + "/cima-*")
		if err != nil {
			return err
		}
		for _, entry := range entries {
			// The generation is shown once the quote is under way or before
			// it: only a written inblob may be lapped.
			text, err := os.ReadFile(entry + "/generation")
			if err == nil && strings.TrimSpace(string(text)) == "0" {
				continue
			}
			other := make([]byte, 64)
			rand.Read(other)
			return os.WriteFile(entry+"/inblob", other, 0)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return ctx.Err()
}

func reportFails(ctx context.Context, w *world) error {
	c, err := client(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	err = turned(map[string]int{"report_fails": 1000}, func() error {
		_, err := c.GetMeasurements(ctx)
		return wireError(err, rpc.CodeTEEUnavailable, syscall.EIO)
	})
	if err != nil {
		return err
	}
	_, err = c.GetMeasurements(ctx)
	return err
}

// extendFails lets a new container's launch fail once: its first call is told,
// and its second one works.
func extendFails(ctx context.Context, w *world) error {
	for errno, words := range map[syscall.Errno]string{syscall.EBUSY: "device or resource busy", syscall.EIO: "input/output error"} {
		err := turned(map[string]int{"extend_errno": int(errno), "extend_fails": 1}, func() error {
			out, err := twice(ctx)
			if err != nil {
				return err
			}
			first, _, _ := strings.Cut(out, "--second--")
			if !strings.Contains(first, words) {
				return fmt.Errorf("the container was told %q, which says nothing of %q", first, words)
			}
			return nil
		})
		if err == nil {
			err = goodHostEvidence(ctx)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", errnoName(errno), err)
		}
	}
	return nil
}

// extendFailsLate has the extend of a launch fail after it happened.
func extendFailsLate(ctx context.Context, w *world) error {
	err := turned(map[string]int{"extend_errno": int(syscall.EIO), "extend_fails": 1, "extend_after": 1}, func() error {
		out, err := twice(ctx)
		if err != nil {
			return err
		}
		if first, _, _ := strings.Cut(out, "--second--"); !strings.HasPrefix(strings.TrimSpace(first), "{") {
			return fmt.Errorf("the container was told %q, though its launch was extended", first)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return goodHostEvidence(ctx)
}

// twice starts a container that asks for evidence two times, and returns all
// that was said to the first and to the second; the second must work.
func twice(ctx context.Context) (string, error) {
	const ask = "/cimactl evidence --nonce 0011223344556677"
	out, _, err := dockerd.start(ctx, nil, "/bin/sh", "-c", ask+" 2>&1; echo --second--; "+ask)
	return out, err
}

func noEntries(ctx context.Context, w *world) error {
	entries, err := os.ReadDir(reports)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return fmt.Errorf("%d entries, the first is %s", len(entries), entries[0].Name())
	}
	return nil
}
