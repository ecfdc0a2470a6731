package main

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/policy"
)

// beginEarlier begins a boot with a daemon of evidence profile v1, starts a container
// under it, and upgrades. The log goes on: the container is named not proved, and one
// that is started after the upgrade is proved.
func (b *boot) beginEarlier(ctx context.Context) error {
	if err := b.manager.install(b.old, 0); err != nil {
		return err
	}
	if err := b.manager.start(); err != nil {
		return err
	}
	before := b.newContainer(fmt.Sprintf("%064x", b.random.Uint64()|1))
	if err := before.start(); err != nil {
		return err
	}
	defer b.over(before)
	defer before.stop()
	r, err := before.result(ctx)
	if err != nil {
		return fmt.Errorf("under %s: %w", b.old, err)
	}
	if r.Verdict != verify.Malformed || !strings.Contains(r.Hint, "profile v1") {
		b.tally.violate("evidence of %s is %s: %s (%s)", b.old, r.Verdict, r.Reason, r.Hint)
	}
	b.manager.end(syscall.SIGTERM)
	if err := b.manager.install(b.bin+"/cimad-sim", 0); err != nil {
		return err
	}
	if err := b.manager.start(); err != nil {
		return err
	}
	if r, err = before.result(ctx); err != nil {
		return fmt.Errorf("after the upgrade: %w", err)
	}
	known, values := r.Step(verify.StepCaller), r.Step(verify.StepCallerValues)
	if r.Verdict != verify.NotTrusted || known.Outcome != verify.Warn || values.Outcome != verify.Fail {
		b.tally.violate("a container of before the upgrade is %s: %s; steps %+v, %+v", r.Verdict, r.Reason, known, values)
	}
	after := b.newContainer(fmt.Sprintf("%064x", b.random.Uint64()|1))
	if err := after.start(); err != nil {
		return err
	}
	defer b.over(after)
	defer after.stop()
	if r, err = after.result(ctx); err != nil {
		return fmt.Errorf("after the upgrade: %w", err)
	}
	if known = r.Step(verify.StepCaller); r.Verdict != verify.NotTrusted || known.Outcome != verify.Pass {
		b.tally.violate("a container of after the upgrade is %s: %s; step %+v", r.Verdict, r.Reason, known)
	}
	b.tally.count("upgrades from an earlier version")
	return nil
}

// result gets a container's evidence and appraises it under a policy that takes any
// container.
func (c *container) result(ctx context.Context) (*verify.Result, error) {
	any, err := policy.Parse("any", []byte("cima_policy = 2\nwaive = [\"start-observed\"]\n[[container]]\nname = \"any\"\nany = true\nsource = \"bundle\"\n"))
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		nonce := newNonce()
		a, err := c.call(order{Do: doEvidence, Nonce: nonce})
		if err != nil {
			return nil, fmt.Errorf("a container that only asks for evidence ended: %w", err)
		}
		if a.Error == "" {
			return verify.Appraise(ctx, a.Result, verify.Options{Nonce: nonce, TrustRoots: c.b.manager.roots, Policy: any})
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("no evidence: %s", a.Error)
		}
	}
}
