package main

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// starts is how many containers are started in all, 10 at a time.
func starts() int {
	text, err := os.ReadFile("starts")
	n, bad := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || bad != nil {
		return 20
	}
	return n
}

// gatedStorm starts containers of all engines, each removed as it ends. The
// first call of each must say that it is gated.
func gatedStorm(ctx context.Context, w *world) error {
	engines := []engine{dockerd, dockercru, rootful}
	for _, e := range engines {
		if err := e.image(ctx); err != nil {
			return err
		}
	}
	var mu sync.Mutex
	var failed []error
	var all sync.WaitGroup
	slots := make(chan struct{}, 10)
	for i := range starts() {
		e := engines[i%len(engines)]
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if err := e.startsGated(ctx); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, err)
			}
		})
	}
	all.Wait()
	w.note("%d of docker with runc, docker with crun, podman with crun, in turn", starts())
	return errors.Join(failed...)
}

func (e engine) startsGated(ctx context.Context) error {
	out, err := finish(e.cmd(ctx, e.begin([]string{"--rm"}, "/cimactl", "whoami", "--json")...))
	if err != nil {
		return fmt.Errorf("%s: %w", e.name, err)
	}
	var who rpc.Identity
	if err := json.Unmarshal([]byte(out), &who); err != nil {
		return fmt.Errorf("%s: %w", e.name, err)
	}
	if who.Container == nil || who.Container.Assurance.Start != "gated" {
		return fmt.Errorf("%s: whoami prints %s", e.name, out)
	}
	return nil
}

const configFile = "/etc/cima/cimad.toml"

// measuringExecs runs f while executions are measured, with more keys in
// [exec].
func measuringExecs(ctx context.Context, keys string, f func() error) (err error) {
	before, err := os.ReadFile(configFile)
	if err != nil {
		return err
	}
	restart := func(config []byte) error {
		if err := os.WriteFile(configFile, config, 0o644); err != nil {
			return err
		}
		_, err := command(ctx, "systemctl", "restart", "cimad.service")
		return err
	}
	measuring := append(before[:len(before):len(before)], "\n[exec]\nmode = \"measure\"\ndeadline = \"20s\"\n"+keys...)
	if err := restart(measuring); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, restart(before)) }()
	return f()
}

// script makes a program and runs it, and a script with a shebang.
const script = `b=/bin/busybox; $b cp $b /made/busybox; $b echo more >>/made/busybox; /made/busybox true
	$b printf '#!/bin/busybox true\n' >/made/script; $b chmod 755 /made/script; /made/script`

// execsMeasured checks, for each engine, that the log has what a container
// executes, in order and with the digests of the files, and that verification
// under an older policy names what came later.
func execsMeasured(ctx context.Context, w *world) error {
	return measuringExecs(ctx, "", func() error {
		for _, e := range []engine{dockerd, dockercru, rootful} {
			if err := e.execsMeasured(ctx, w); err != nil {
				return fmt.Errorf("%s: %w", e.name, err)
			}
		}
		return nil
	})
}

func (e engine) execsMeasured(ctx context.Context, w *world) error {
	if err := e.image(ctx); err != nil {
		return err
	}
	id, remove, err := e.sleeps(ctx)
	if err != nil {
		return err
	}
	defer remove()
	dir, err := os.MkdirTemp("", "cima-vm-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	good, policy, late := filepath.Join(dir, "good.json"), filepath.Join(dir, "policy.toml"), filepath.Join(dir, "late.json")
	nonce, err := e.evidenceTo(ctx, id, good)
	if err != nil {
		return err
	}
	values, err := command(ctx, "cimactl", "policy", "init", good, "--trust-root", rootPEM, "--waive", waived)
	if err != nil {
		return err
	}
	values = allowing(values, "", true)
	if err := os.WriteFile(policy, []byte(values), 0o600); err != nil {
		return err
	}
	if r, err := verdict(ctx, good, nonce, policy); err != nil || r.Verdict != verify.Trusted {
		return fmt.Errorf("before: %+v %w", r, err)
	}
	if _, err := finish(e.cmd(ctx, "exec", id, "/bin/busybox", "sh", "-c", script)); err != nil {
		return err
	}
	if nonce, err = e.evidenceTo(ctx, id, late); err != nil {
		return err
	}
	bundle, err := os.ReadFile(late)
	if err != nil {
		return err
	}
	w.keep("execs/"+e.name+".json", bundle)
	r, err := verdict(ctx, late, nonce, policy)
	if err != nil {
		return err
	}
	step := r.Step(verify.StepCallerValues)
	if r.Verdict == verify.Trusted || step == nil || !strings.Contains(step.Detail, "it executed ") {
		return fmt.Errorf("verify must name the intruder: %q, %+v", r.Verdict, step)
	}
	return e.wantExecs(ctx, id, bundle)
}

// sleeps starts a container that does nothing; remove ends it.
func (e engine) sleeps(ctx context.Context) (id string, remove func(), err error) {
	out, err := finish(e.cmd(ctx, e.begin([]string{"-d"}, "/bin/busybox", "sleep", "600")...))
	id = strings.TrimSpace(out)
	return id, func() { e.remove(ctx, id) }, err
}

// seenExec is what an exec event measured.
type seenExec struct{ Path, SHA384, Verity, Missed string }

// execsIn are the container's own exec events in its evidence, in order.
func execsIn(bundle []byte) (execs []seenExec, err error) {
	evidence, _, err := rpc.DecodeEvidence(bundle)
	if err != nil {
		return nil, err
	}
	for _, event := range ownEvents(&given{evidence: evidence}) {
		if event.Operation != logs.OpExec {
			continue
		}
		var x seenExec
		if err := json.Unmarshal(event.Body(), &x); err != nil {
			return nil, err
		}
		execs = append(execs, x)
	}
	return execs, nil
}

// evidenceTo writes a running container's evidence to a file.
func (e engine) evidenceTo(ctx context.Context, id, file string) (nonce []byte, err error) {
	nonce = newNonce()
	out, err := finish(e.cmd(ctx, "exec", id, "/cimactl", "evidence", "--nonce", hex.EncodeToString(nonce)))
	if err != nil {
		return nil, err
	}
	return nonce, os.WriteFile(file, []byte(out), 0o600)
}

// verdict is the released cimactl's verdict.
func verdict(ctx context.Context, file string, nonce []byte, policy string) (*verify.Result, error) {
	out, err := command(ctx, "cimactl", "verify", file, "--nonce", hex.EncodeToString(nonce), "--trust-root", rootPEM, "--policy", policy, "--json")
	var r verify.Result
	if json.Unmarshal([]byte(out), &r) != nil {
		return nil, fmt.Errorf("cimactl verify printed no result: %w", err)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, err
	}
	return &r, nil
}

// wantExecs compares the exec events with the files.
func (e engine) wantExecs(ctx context.Context, id string, bundle []byte) error {
	execs, err := execsIn(bundle)
	if err != nil {
		return err
	}
	var got, want []string
	for _, x := range execs {
		got = append(got, strings.TrimSpace(x.Path+" "+x.SHA384+x.Missed))
	}
	for _, path := range []string{"/bin/busybox", "/cimactl", "/made/busybox", "/made/script"} {
		file := filepath.Join(os.TempDir(), "from-container")
		if _, err := finish(e.cmd(ctx, "cp", id+":"+path, file)); err != nil {
			return err
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		want = append(want, fmt.Sprintf("%s %x", path, sha512.Sum384(data)))
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		return fmt.Errorf("executed:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	return nil
}
