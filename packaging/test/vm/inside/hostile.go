package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	testengine "github.com/cima-project/cima/packaging/test/engine"
	"github.com/cima-project/cima/packaging/test/hostile/attack"
)

const (
	hostileImage = "localhost/cima-hostile:1"
	hostileName  = "cima-hostile"
)

// hostileStorm is what a hostile container does.
type hostileStorm struct {
	engine engine
	image  string
	words  []string
}

// hostile runs hostile containers of three engines, one after the other, while executions
// are measured. Beside each, containers of docker start gated and get evidence, connects
// don't fail, and the journal isn't flooded.
func hostile(ctx context.Context, w *world) error {
	storms, err := hostileStorms(ctx)
	if err != nil {
		return err
	}
	return measuringExecs(ctx, "", func() error {
		var failed []error
		var figures []string
		for _, s := range storms {
			figure, err := s.endured(ctx)
			if err != nil {
				failed = append(failed, fmt.Errorf("%s, %s: %w", s.engine.name, strings.Join(s.words, " "), err))
			}
			figures = append(figures, figure)
		}
		w.note("%d storms; of 100 connects failed: %s", len(storms), strings.Join(figures, " "))
		return errors.Join(failed...)
	})
}

// hostileStorms makes the images, and lists what is tried.
func hostileStorms(ctx context.Context) (storms []hostileStorm, err error) {
	attacker, err := os.ReadFile("attacker")
	if err != nil {
		return nil, err
	}
	if err := dockerd.image(ctx); err != nil {
		return nil, err
	}
	// Each kind by one engine, since a storm takes minutes here. `make proof-hostile` has all
	// kinds by two.
	engines := []engine{dockerd, rootful, alices}
	for _, e := range engines {
		if err := e.importImage(ctx, hostileImage, attack.Image(attacker)); err != nil {
			return nil, err
		}
	}
	for i, words := range [][]string{
		{"connect", "waiting", "64"}, {"connect", "uids", "32"}, {"connect", "held", "200"}, {"connect", "refused", "8"}, {"lease", "0"}, {"execs", "8", "4", "0"},
	} {
		storms = append(storms, hostileStorm{engines[i%len(engines)], hostileImage, append([]string{"/attacker"}, words...)})
	}
	hijacked, err := attack.RuntimeImage(attacker, "/usr/sbin/runc")
	if err != nil {
		return nil, err
	}
	const name = hostileImage + "-runtime"
	if err := dockerd.importImage(ctx, name, hijacked); err != nil {
		return nil, err
	}
	return append(storms, hostileStorm{dockerd, name, []string{"/run-me", "runtime", "50", "0"}}), nil
}

func (e engine) importImage(ctx context.Context, name string, image *testengine.Image) error {
	text, err := image.Bytes()
	if err != nil {
		return err
	}
	f, err := os.CreateTemp("/var/tmp", "image-*.tar")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err := errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	_, err = finish(e.cmd(ctx, "import", f.Name(), name))
	return err
}

// endured runs one storm and looks at its neighbours. figure is how many connects failed.
func (s hostileStorm) endured(ctx context.Context) (figure string, err error) {
	before, err := journalLines(ctx)
	if err != nil {
		return "", err
	}
	begun := time.Now()
	args := append([]string{"run", "--log-driver", "none", "--name", hostileName, "--network", "none", "-v", "/run/cima:/run/cima:ro"}, s.engine.run...)
	run := s.engine.cmd(ctx, append(append(args, s.image), s.words...)...)
	if err := run.Start(); err != nil { // not -d: a user's conmon would end with the unit that started it
		return "", err
	}
	defer func() {
		err = errors.Join(err, s.engine.remove(ctx, hostileName))
		run.Wait()
	}()
	if _, err := s.engine.runs(ctx, hostileName); err != nil {
		return "", err
	}
	time.Sleep(3 * time.Second) // until it blows
	failures := 0
	for range 100 {
		nc, err := net.Dial("unix", "/run/cima/cima.sock")
		if err != nil {
			failures++
		} else {
			nc.Close()
		}
		time.Sleep(10 * time.Millisecond)
	}
	figure = fmt.Sprint(failures)
	if failures > 5 {
		return figure, fmt.Errorf("%d of 100 connects failed", failures)
	}
	if err := dockerd.startsGated(ctx); err != nil {
		return figure, err
	}
	if _, err := finish(dockerd.cmd(ctx, dockerd.begin([]string{"--rm"}, "/cimactl", "evidence", "--nonce", strings.Repeat("07", 32))...)); err != nil {
		return figure, fmt.Errorf("evidence of a neighbour: %w", err)
	}
	after, err := journalLines(ctx)
	if most := 10*(10+int(time.Since(begun).Seconds())) + 20; err == nil && after-before > most {
		err = fmt.Errorf("%d messages in the journal, must be %d at most", after-before, most)
	}
	return figure, err
}

// journalLines is how many messages of cimad the journal has.
func journalLines(ctx context.Context) (int, error) {
	out, err := command(ctx, "journalctl", "-q", "-o", "cat", "-u", "cimad.service", "--no-pager")
	return strings.Count(out, "\n"), err
}
