// Demo answers: what does CIMA do? It starts a simulated TD and a daemon, lets
// containers get evidence about themselves, appraises it outside, tries to
// cheat, and prints what was proved. It removes everything that it made.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/cima-project/cima/packaging/test/engine"
)

func main() {
	bin := flag.String("bin", "bin", "`DIR` of cimad-sim and cimactl")
	only := flag.String("engine", "", "`NAME` of the engine to use: docker, podman, dockerd (one of its own), none")
	platform := flag.String("platform", "tdx", "`NAME` of what is simulated: tdx, azure-tdx, snp, azure-snp")
	install := flag.Bool("install", false, "install podman if no engine works here")
	flag.Parse()
	if runtime.GOOS != "linux" {
		fmt.Fprintf(os.Stderr, "demo: containers and their sockets need Linux; this is %s\nhint: run it on a Linux machine or in a Linux VM\n", runtime.GOOS)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, err := run(ctx, *bin, *only, *platform, *install)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
	}
	os.Exit(code)
}

// stage is what the demo runs on.
type stage struct {
	dir      string // short: a socket's path has at most 107 bytes
	bin      string
	platform string        // of cimad-sim
	engine   *engine.Found // nil: host processes take the place of containers
	table    table

	undo []func() // in reverse order
}

func run(ctx context.Context, bin, only, platform string, install bool) (code int, err error) {
	bin, err = filepath.Abs(bin)
	if err != nil {
		return 1, err
	}
	dir, err := os.MkdirTemp("/tmp", "cima-")
	if err != nil {
		return 1, err
	}
	s := &stage{dir: dir, bin: bin, platform: platform}
	defer s.close()
	// Containers enter as any uid; secret files in here have a mode of their
	// own.
	if err := os.Chmod(dir, 0o755); err != nil {
		return 1, err
	}
	if err := s.chooseEngine(ctx, only, install); err != nil {
		return 1, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := s.start(ctx); err != nil {
		return 1, err
	}
	if err := s.play(ctx); err != nil {
		return ended(ctx, err)
	}
	s.table.print(os.Stdout)
	switch {
	case s.table.failed > 0:
		return 1, fmt.Errorf("%d of %d had another result than they must", s.table.failed, len(s.table.rows))
	case s.table.missing > 0 && os.Getenv("CI") == "true":
		return 1, errors.New("with CI=true nothing may be left out")
	}
	return 0, nil
}

// chooseEngine looks for an engine, or installs one if that is wanted. Without one, host
// processes take the place of containers, and that is no error.
func (s *stage) chooseEngine(ctx context.Context, only string, install bool) error {
	if os.Geteuid() != 0 {
		say("containers are left out: cimad reads root-owned records and other users' processes; run `sudo make demo`")
		return nil
	}
	if err := s.findEngine(ctx, only); err != nil || s.engine != nil || only == "none" {
		return err
	}
	return s.bringEngine(ctx, install)
}

// timeout bounds the whole demo, which takes well under a minute.
const timeout = 4 * time.Minute

// ended returns the reason why the demo stopped early, and the exit code.
func ended(ctx context.Context, err error) (int, error) {
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return 1, fmt.Errorf("not done after %v; everything was removed: %w", timeout, err)
	case ctx.Err() != nil:
		return 130, errors.New("interrupted; everything was removed")
	}
	return 1, err
}

// close undoes everything, in reverse order.
func (s *stage) close() {
	for i := len(s.undo) - 1; i >= 0; i-- {
		s.undo[i]()
	}
	if err := os.RemoveAll(s.dir); err != nil {
		fmt.Fprintf(os.Stderr, "demo: left behind: %v\n", err)
	}
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "demo: "+format+"\n", args...) }
