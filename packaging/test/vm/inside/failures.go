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

// quoteSlow requests a quote that takes a second, as with the real driver, and
// makes other requests meanwhile.
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

// quoteLapped writes to the daemon's own configfs entry while its quote is
// made.
func quoteLapped(ctx context.Context, w *world) error {
	found := errors.New("it never was")
	// The kernel decides which comes first, the other's write or the daemon's
	// check of the generation: a quote that was not lapped is good.
	for try := 0; try < 10 && found != nil; try++ {
		err := turned(map[string]int{"quote_delay_ms": 500}, func() error {
			done := make(chan error, 1)
			go func() { done <- goodHostEvidence(ctx) }()
			if err := lap(ctx); err != nil {
				return errors.Join(err, <-done)
			}
			err := <-done
			if found = wireError(err, rpc.CodeTEEUnavailable, syscall.EBUSY); err != nil {
				return found
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return errors.Join(found, goodHostEvidence(ctx))
}

// lap writes to the daemon's entry again and again, from when the entry exists
// until it is gone. Some of the writes come between the daemon's write and its
// check of the generation, however slow either is.
func lap(ctx context.Context) error {
	lapped := false
	for ctx.Err() == nil {
		entries, err := filepath.Glob(reports + "/cima-*")
		if err != nil {
			return err
		}
		if len(entries) == 0 && lapped {
			return nil
		}
		for _, entry := range entries {
			other := make([]byte, 64)
			rand.Read(other)
			if os.WriteFile(entry+"/inblob", other, 0) == nil {
				lapped = true
			}
		}
		time.Sleep(time.Millisecond)
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

// extendFails makes all extends fail while a container is new: its call gets
// the error, and its next call succeeds once extends work again.
func extendFails(ctx context.Context, w *world) error {
	for errno, words := range map[syscall.Errno]string{syscall.EBUSY: "device or resource busy", syscall.EIO: "input/output error"} {
		var failed error
		id, err := whileExtends(ctx, map[string]int{"extend_errno": int(errno), "extend_fails": 1000}, func(id string) error {
			_, failed = finish(dockerd.cmd(ctx, "exec", id, "/cimactl", "evidence", "--nonce", someNonce))
			return nil
		})
		if err == nil && (failed == nil || !strings.Contains(failed.Error(), words)) {
			err = fmt.Errorf("the container got the error %v, which must contain %q", failed, words)
		}
		if err == nil {
			_, err = finish(dockerd.cmd(ctx, "exec", id, "/cimactl", "evidence", "--nonce", someNonce))
		}
		if err == nil {
			err = goodHostEvidence(ctx)
		}
		finish(dockerd.cmd(ctx, "rm", "-f", id))
		if err != nil {
			return fmt.Errorf("%s: %w", errnoName(errno), err)
		}
	}
	return nil
}

// extendFailsLate makes all extends fail after they were carried out.
func extendFailsLate(ctx context.Context, w *world) error {
	id, err := whileExtends(ctx, map[string]int{"extend_errno": int(syscall.EIO), "extend_fails": 1000, "extend_after": 1}, func(id string) error {
		_, err := finish(dockerd.cmd(ctx, "exec", id, "/cimactl", "evidence", "--nonce", someNonce))
		return err
	})
	finish(dockerd.cmd(ctx, "rm", "-f", id))
	if err != nil {
		return err
	}
	return goodHostEvidence(ctx)
}

const someNonce = "0011223344556677"

// whileExtends starts a container while knobs are set, and runs f.
func whileExtends(ctx context.Context, knobs map[string]int, f func(id string) error) (id string, err error) {
	if err := dockerd.image(ctx); err != nil {
		return "", err
	}
	err = turned(knobs, func() error {
		out, err := finish(dockerd.cmd(ctx, dockerd.begin([]string{"-d"}, "/bin/busybox", "sleep", "300")...))
		id = strings.TrimSpace(out)
		if err != nil {
			return err
		}
		return f(id)
	})
	return id, err
}

func noEntries(ctx context.Context, w *world) error {
	entries, err := os.ReadDir(reports)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return fmt.Errorf("%d entries are left, the first is %s", len(entries), entries[0].Name())
	}
	return nil
}
