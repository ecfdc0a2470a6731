package main

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/rpc"
)

func TestWatch(t *testing.T) {
	silence := 30 * time.Second
	never := func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }
	refuses := func(context.Context) error { return &rpc.Error{Code: rpc.CodeMethodNotFound} }
	for name, tt := range map[string]struct {
		answers int // before it is silent
		last    func(context.Context) error
		want    bool
		after   time.Duration
	}{
		"never answers":       {0, never, true, silence},
		"stops to answer":     {3, never, true, silence + 15*time.Second},
		"answers with errors": {0, refuses, false, time.Hour},
		"answers slowly":      {0, func(ctx context.Context) error { return sleep(ctx, 20*time.Second) }, false, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				start, n := time.Now(), 0
				got := watch(ctx, func(ctx context.Context) error {
					if n++; n <= tt.answers {
						return nil
					}
					return tt.last(ctx)
				}, silence)
				if got != tt.want || time.Since(start) != tt.after {
					t.Errorf("silent: %v after %v, want %v after %v", got, time.Since(start), tt.want, tt.after)
				}
			})
		})
	}
}

// A command ends where somebody listens who never answers.
func TestSilentDaemon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cima.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := &cobra.Command{}
	waitFlag(c)
	c.SetContext(t.Context())
	d, err := dialWatched(c, path, 6*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	_, err = d.WhoAmI(c.Context())
	var away *rpc.UnreachableError
	if !errors.As(err, &away) || !strings.Contains(away.Hint, "systemctl status cimad") {
		t.Errorf("err = %v", err)
	}
}
