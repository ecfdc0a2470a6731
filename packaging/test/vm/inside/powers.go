package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/logs"
)

// powers are classes that need this system to show: AppArmor, and an engine
// that makes no cgroup.
var powers = []struct {
	engine engine
	flags  []string
	class  string
}{
	{dockerd, []string{"--privileged"}, "privileged"},
	{dockerd, []string{"--security-opt", "apparmor=unconfined"}, "unconfined:apparmor"},
	{dockercru, []string{"--security-opt", "apparmor=unconfined"}, "unconfined:apparmor"},
	{rootful, []string{"--privileged"}, "privileged"},
	{rootful, []string{"--security-opt", "apparmor=unconfined"}, "unconfined:apparmor"},
	{rootful, []string{"--security-opt", "label=disable"}, "unconfined:selinux"},
	{rootful, []string{"--cgroups", "disabled"}, "no-cgroup"},
}

// powersAnnounced runs a container of each class. The evidence of others must
// have the power event, and be trusted only if the policy allows the class.
func powersAnnounced(ctx context.Context, w *world) error {
	for _, p := range powers {
		out, _, err := p.engine.start(ctx, "", p.flags, "/cimactl", "--version")
		if err != nil || !strings.Contains(out, "cimactl") {
			return fmt.Errorf("%s %v: %q %w", p.engine.name, p.flags, out, err)
		}
		if err := announcedPower(ctx, p.class); err != nil {
			return fmt.Errorf("%s %v: %w", p.engine.name, p.flags, err)
		}
	}
	w.note("%d ways", len(powers))
	return nil
}

// announcedPower checks that the class is public.
func announcedPower(ctx context.Context, class string) error {
	events, err := readRuntimeLog()
	if err != nil {
		return err
	}
	var all []string
	for _, e := range events {
		var power logs.PowerBody
		if e.Operation == logs.OpPower {
			if err := json.Unmarshal(e.Body(), &power); err != nil {
				return err
			}
			all = append(all, power.Classes...)
		}
	}
	if !slices.Contains(all, class) {
		return fmt.Errorf("%s must be in a power event: %q", class, all)
	}
	return judged(ctx, class)
}

// judged appraises the host's evidence under two policies: with the class, and
// without it.
func judged(ctx context.Context, class string) error {
	nonce := newNonce()
	bundle, err := hostEvidence(ctx, nonce)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "cima-vm-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file, policy := filepath.Join(dir, "evidence.json"), filepath.Join(dir, "policy.toml")
	if err := os.WriteFile(file, bundle, 0o600); err != nil {
		return err
	}
	values, err := command(ctx, "cimactl", "policy", "init", file, "--trust-root", rootPEM, "--waive", waived)
	if err != nil {
		return err
	}
	for _, allowed := range []bool{true, false} {
		text := allowing(values, class, allowed)
		if err := os.WriteFile(policy, []byte(text), 0o600); err != nil {
			return err
		}
		r, err := verdict(ctx, file, nonce, policy)
		if err != nil {
			return err
		}
		step := r.Step(verify.StepPower)
		if (r.Verdict == verify.Trusted) != allowed || !allowed && !strings.Contains(step.Detail, class) {
			return fmt.Errorf("allowed: %t, verify's verdict %q: %+v", allowed, r.Verdict, step)
		}
	}
	return nil
}

// allowing makes a policy allow the classes that its comment says were seen, with or
// without one of them.
func allowing(policy, class string, with bool) string {
	_, seen, _ := strings.Cut(policy, "# Seen, and not allowed: allow = [")
	seen, _, _ = strings.Cut(seen, "]\n")
	var allow []string
	for _, c := range strings.Split(seen, ", ") {
		if c != "" && (with || c != strconv.Quote(class)) {
			allow = append(allow, c)
		}
	}
	policy = strings.Replace(policy, `match.what = { any = ["launch", "event"] }`, `match.what = "nothing"`, 1) // other tests make gaps
	return strings.Replace(policy, "allow = []", "allow = ["+strings.Join(allow, ", ")+"]", 1)
}
