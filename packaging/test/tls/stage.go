package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/peers"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/packaging/test/engine"
	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/atls"
	"github.com/cima-project/cima/rpc/tree"
)

const (
	image  = "cima-tls:1"
	socket = "/run/cima/cima.sock"
	inside = "/s.sock"
	tdDir  = "/run/td"
)

// stage is a daemon, an engine, and containers that serve.
type stage struct {
	plan
	dir     string
	running []*exec.Cmd // the TD and the daemon
	engine  *engine.Engine
	key     tls.Certificate // of the container "keyed"; an attacker has a copy
	at      map[string]string
	trusted map[string]*policy.Policy
	roots   []*x509.Certificate
}

func (p plan) open(ctx context.Context) (s *stage, err error) {
	s = &stage{plan: p, at: map[string]string{}, trusted: map[string]*policy.Policy{}}
	if s.dir, err = os.MkdirTemp("", "cima-tls-"); err != nil {
		return nil, err
	}
	if s.engine, err = engine.Docker(); err != nil {
		return nil, err
	}
	if err := s.start(); err != nil {
		return nil, err
	}
	for _, next := range []func(context.Context) error{s.images, s.containers, s.policies} {
		if err := next(ctx); err != nil {
			s.close()
			return nil, fmt.Errorf("%w; messages are in %s", err, s.dir)
		}
	}
	return s, nil
}

func (s *stage) start() error {
	log, err := os.Create(filepath.Join(s.dir, "cimad.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	if err := s.program(log, tdDir+"/td.sock", "td", "--dir", tdDir, "--quote-delay", "1s"); err != nil {
		return err
	}
	return s.program(log, socket, "--td", tdDir+"/td.sock", "--runtime-dir", "/run", "--config", filepath.Join(s.dir, "none.toml"))
}

func (s *stage) program(log *os.File, at string, words ...string) error {
	c := exec.Command(filepath.Join(s.bin, "cimad-sim"), words...)
	c.Stderr = log
	if err := c.Start(); err != nil {
		return err
	}
	s.running = append(s.running, c)
	return listens(at)
}

func listens(path string) error {
	for range 200 {
		if nc, err := net.Dial("unix", path); err == nil {
			return nc.Close()
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("nobody listens at %s", path)
}

func (s *stage) close() {
	for _, c := range slices.Backward(s.running) {
		c.Process.Signal(syscall.SIGTERM)
		c.Wait()
	}
}

func (s *stage) images(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	text, err := newKey()
	if err != nil {
		return err
	}
	if s.key, err = tls.X509KeyPair(text, text); err != nil {
		return err
	}
	i := engine.NewImage().Folder("/tmp", 0o1777).File("/proof", self).File("/cimactl", filepath.Join(s.bin, "cimactl")).Text("/key.pem", text)
	return s.engine.Import(ctx, image, i)
}

// containers starts those that serve: two by cimactl, that differ in a word of their
// lines, and one by rpc/atls with a key that is in its image.
func (s *stage) containers(ctx context.Context) error {
	for name, line := range map[string]string{
		"one":   "/cimactl tls serve --listen unix:" + inside + " -- /proof greet",
		"two":   "/cimactl tls serve --listen unix:/" + inside + " -- /proof greet",
		"keyed": "/proof keyed " + inside,
	} {
		args := append([]string{"run", "-d", "--name", name, "--network", "none", "-v", "/run/cima:/run/cima:ro"}, s.engine.Run...)
		if _, err := s.engine.Do(ctx, "", append(append(args, image), strings.Fields(line)...)...); err != nil {
			return err
		}
		pid, err := s.engine.Do(ctx, "", "inspect", "--format", "{{.State.Pid}}", name)
		if err != nil {
			return err
		}
		s.at[name] = "/proc/" + pid + "/root" + inside
		if err := listens(s.at[name]); err != nil {
			logs, _ := s.engine.Command(ctx, "logs", name).CombinedOutput()
			return fmt.Errorf("%s: %w: %s", name, err, logs)
		}
	}
	return nil
}

var errSeen = errors.New("the evidence was kept, and nobody is trusted yet")

// keeps keeps evidence, and refuses it.
type keeps struct{ evidence []byte }

func (k *keeps) Appraise(_ context.Context, evidence, _, _ []byte) error {
	k.evidence = evidence
	return errSeen
}

// policies makes each container's, of its first evidence.
func (s *stage) policies(ctx context.Context) error {
	root := tdDir + "/root.pem"
	text, err := os.ReadFile(root)
	if err != nil {
		return err
	}
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return err
	}
	s.roots = []*x509.Certificate{cert}
	for name, at := range s.at {
		var seen keeps
		if _, err := (&atls.Dialer{Appraiser: &seen}).DialContext(ctx, "unix", at); !errors.Is(err, errSeen) {
			return fmt.Errorf("%s: first evidence: %w", name, err)
		}
		file := filepath.Join(s.dir, name+".json")
		if err := os.WriteFile(file, seen.evidence, 0o600); err != nil {
			return err
		}
		out, err := exec.Command(filepath.Join(s.bin, "cimactl"), "policy", "init", file, "--trust-root", root, "--waive", "collateral,host-input-unknown").Output()
		if err != nil {
			var exit *exec.ExitError
			errors.As(err, &exit)
			return fmt.Errorf("%s: policy init: %w: %s", name, err, exit.Stderr)
		}
		if s.trusted[name], err = policy.Parse(name, out); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(s.dir, name+".toml"), out, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// appraiser trusts one container.
func (s *stage) appraiser(name string) *peers.Appraiser {
	return &peers.Appraiser{Options: verify.Options{Policy: s.trusted[name], TrustRoots: s.roots}}
}

// keyed is a service that keeps its key in a file: others may have a copy.
func keyed(at string) error {
	text, err := os.ReadFile("/key.pem")
	if err != nil {
		return err
	}
	key, err := tls.X509KeyPair(text, text)
	if err != nil {
		return err
	}
	client, err := rpc.Dialer{Wait: true}.Dial(context.Background())
	if err != nil {
		return err
	}
	below, err := net.Listen("unix", at)
	if err != nil {
		return err
	}
	l, err := atls.Server{Prover: tree.NewProver(client), Config: &tls.Config{Certificates: []tls.Certificate{key}}}.Listen(below)
	if err != nil {
		return err
	}
	return greetAll(l)
}
