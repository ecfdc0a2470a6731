package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// evidence is the part of a bundle that the demo reads; it keeps the rest
// unchanged.
type evidence struct {
	raw    map[string]json.RawMessage
	nonce  string
	claims struct {
		Container *struct {
			ID           string `json:"id"`
			LaunchDigest string `json:"launch_digest"`
		} `json:"container"`
	}
}

func (e *evidence) bytes() []byte {
	b, _ := json.Marshal(e.raw)
	return b
}

// with is the bundle with one member replaced.
func (e *evidence) with(member string, value json.RawMessage) []byte {
	forged := evidence{raw: map[string]json.RawMessage{}}
	for k, v := range e.raw {
		forged.raw[k] = v
	}
	forged.raw[member] = value
	return forged.bytes()
}

// play runs all parts of the demo.
func (s *stage) play(ctx context.Context) error {
	if err := s.identity(ctx); err != nil {
		return err
	}
	a, b, err := s.twoEvidences(ctx)
	if err != nil {
		return err
	}
	policy, err := s.policy(ctx, a)
	if err != nil {
		return err
	}
	if err := s.appraisals(ctx, a, b, policy); err != nil {
		return err
	}
	if err := s.otherLaunch(ctx, policy); err != nil {
		return err
	}
	return s.forgeries(ctx, a, b, policy)
}

// identity shows that the kernel names the caller, and that no request can.
func (s *stage) identity(ctx context.Context) error {
	const named = "a container is named by the kernel, whatever it says"
	const unprivileged = "so is one as uid 1234 without any capability"
	const other = "a container can't ask about another"
	if s.engine == nil {
		s.table.skip(named, "needs a container engine and root")
		s.table.skip(unprivileged, "needs a container engine and root")
		s.table.skip("a container is measured before its first instruction", "needs a container engine and root")
	} else {
		if err := s.whoami(ctx, named, "w1"); err != nil {
			return err
		}
		s.engine.Run = append(s.engine.Run, "--user", "1234", "--cap-drop", "ALL")
		err := s.whoami(ctx, unprivileged, "w2")
		s.engine.Run = s.engine.Run[:len(s.engine.Run)-4]
		if err != nil {
			return err
		}
	}
	params := fmt.Sprintf(`{"nonce":"AAAAAAAAAAA=","container_id":%q}`, strings.Repeat("ab", 32))
	_, stderr, code, err := s.call(ctx, "other", "", "call", "GetEvidence", params)
	if err != nil {
		return err
	}
	s.table.check(code != 0 && strings.Contains(stderr, "container_id"), other, "%s", firstLine(stderr))
	return nil
}

func (s *stage) whoami(ctx context.Context, what, name string) error {
	c, err := s.begin(ctx, name, "whoami", "--json")
	if err != nil {
		return err
	}
	out, stderr, _, err := c.end("")
	if err != nil {
		return err
	}
	var who struct {
		Container *struct {
			ID, Runtime string
			Assurance   struct{ Start string }
		}
		UID int
	}
	json.Unmarshal([]byte(out), &who)
	ok := who.Container != nil && who.Container.ID == c.id()
	how := firstLine(stderr)
	if ok {
		how = fmt.Sprintf("%s container %.12s, uid %d", who.Container.Runtime, who.Container.ID, who.UID)
	}
	s.table.check(ok, what, "%s", how)
	if name == "w1" && ok {
		const gated = "it was measured before its first instruction"
		if who.Container.Assurance.Start == "gated" {
			s.table.check(true, gated, "the kernel held the runtime meanwhile")
		} else {
			s.table.skip(gated, "the kernel gives no permission events here (fanotify, CAP_SYS_ADMIN)")
		}
	}
	return nil
}

// twoEvidences starts the same command line twice, gives each caller a nonce of
// its own, and gets its evidence.
func (s *stage) twoEvidences(ctx context.Context) (a, b *evidence, err error) {
	say("two callers of one command line ask for evidence about themselves")
	var callers [2]*caller
	for i := range callers {
		if callers[i], err = s.begin(ctx, fmt.Sprint("e", i), "evidence", "--nonce", "-"); err != nil {
			return nil, nil, err
		}
	}
	var got [2]*evidence
	for i, c := range callers {
		nonce := make([]byte, 32)
		rand.Read(nonce)
		e := &evidence{nonce: hex.EncodeToString(nonce)}
		out, stderr, code, err := c.end(e.nonce + "\n")
		if err != nil {
			return nil, nil, err
		}
		if code != 0 || json.Unmarshal([]byte(out), &e.raw) != nil || json.Unmarshal(e.raw["claims"], &e.claims) != nil {
			return nil, nil, fmt.Errorf("no evidence: %s", stderr)
		}
		got[i] = e
	}
	const equal = "equal command lines have equal launch digests"
	x, y := got[0].claims.Container, got[1].claims.Container
	if s.engine == nil {
		s.table.skip(equal, "needs a container engine and root")
	} else {
		s.table.check(x != nil && y != nil && x.ID == callers[0].id() && y.ID == callers[1].id() &&
			x.ID != y.ID && x.LaunchDigest == y.LaunchDigest, equal, "%.32s… in both", x.LaunchDigest)
	}
	return got[0], got[1], nil
}

// waived is what the demo accepts without proof: a simulated TD has no collateral, nobody
// has looked what its system reads of its host, and its containers start before the gate.
const waived = "collateral,host-input-unknown,start-observed,mounts,missed-launch"

// waivedOn is what is accepted besides, because a platform lacks it (cima-platforms(7)): an SNP
// guest has no register and no boot log; what the boot log of a simulated TPM says of the root file
// system is known to no loader.
func waivedOn(platform string) string {
	switch platform {
	case "snp":
		return waived + ",boot-firmware-alone,no-register"
	case "azure-tdx", "azure-snp":
		return waived + ",root-not-covered"
	}
	return waived
}

// policy makes reference values from the first evidence.
func (s *stage) policy(ctx context.Context, a *evidence) (string, error) {
	in, out := s.path("first.json"), s.path("policy.toml")
	if err := os.WriteFile(in, a.bytes(), 0o600); err != nil {
		return "", err
	}
	c := exec.CommandContext(ctx, filepath.Join(s.bin, "cimactl"), "policy", "init", in, "--trust-root", s.path("td/root.pem"), "--waive", waivedOn(s.platform))
	c.Stderr = os.Stderr
	text, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("cimactl policy init: %w", err)
	}
	// Without an engine a process of no unit asks, which a policy must allow by hand.
	text = bytes.Replace(text, []byte(`units = ["name-it.service"]`), []byte("any = true"), 1)
	if bytes.Contains(text, []byte(`# Seen, and not allowed: allow = ["unseen-start"`)) { // without the gate
		text = bytes.Replace(text, []byte("allow = []"), []byte(`allow = ["unseen-start"]`), 1)
		text = bytes.Replace(text, []byte(`match.what = { any = ["launch", "event"] }`), []byte(`match.what = "event"`), 1)
	}
	return out, os.WriteFile(out, text, 0o600)
}

func (s *stage) appraisals(ctx context.Context, a, b *evidence, policy string) error {
	root := s.path("td/root.pem")
	for _, t := range []struct {
		what     string
		evidence []byte
		nonce    string
		args     []string
		want     int
	}{
		{"the first evidence is trusted, under a policy made from it", a.bytes(), a.nonce, []string{"--trust-root", root, "--policy", policy}, 0},
		{"the second evidence is trusted, under the same policy", b.bytes(), b.nonce, []string{"--trust-root", root, "--policy", policy}, 0},
		{"without a policy the first evidence is authentic, and no more", a.bytes(), a.nonce, []string{"--trust-root", root}, 4},
		{"simulated evidence isn't trusted as hardware's", a.bytes(), a.nonce, []string{"--policy", policy}, 2},
		{"an old nonce is detected", b.bytes(), a.nonce, []string{"--trust-root", root, "--policy", policy}, 2},
	} {
		if err := s.judge(ctx, t.what, t.evidence, t.nonce, t.want, t.args...); err != nil {
			return err
		}
	}
	return nil
}

// otherLaunch starts another command line. Its evidence is authentic, and the policy's
// refusal names the fact that differs.
func (s *stage) otherLaunch(ctx context.Context, policy string) error {
	const named = "another command line is refused, and the fact that differs is named"
	if s.engine == nil {
		s.table.skip(named, "needs a container engine and root")
		return nil
	}
	nonce := make([]byte, 32)
	rand.Read(nonce)
	text := hex.EncodeToString(nonce)
	out, stderr, code, err := s.call(ctx, "e2", text+"\n", "evidence", "--shared", "--nonce", "-")
	if err != nil {
		return err
	}
	if code != 0 {
		return fmt.Errorf("no evidence: %s", stderr)
	}
	code, why, err := s.appraise(ctx, []byte(out), text, "--trust-root", s.path("td/root.pem"), "--policy", policy)
	if err != nil {
		return err
	}
	s.table.check(code == 4 && strings.HasSuffix(why, "differs in asked.arguments"), named, "exit %d: %s", code, why)
	return nil
}

// forgeries are what a holder of both bundles could try.
func (s *stage) forgeries(ctx context.Context, a, b *evidence, policy string) error {
	args := []string{"--trust-root", s.path("td/root.pem"), "--policy", policy}
	claims := strings.Replace(string(a.raw["claims"]), `"count":`, `"count":1`, 1)
	quote := "quote"
	if strings.HasPrefix(s.platform, "azure-") {
		quote = "platform" // the TPM's: what the hardware signs is the same for all of a boot
	}
	for _, t := range []struct {
		what     string
		evidence []byte
	}{
		{"a quote taken from the other evidence is detected", a.with(quote, b.raw[quote])},
		{"claims taken from the other evidence are detected", a.with("claims", b.raw["claims"])},
		{"a forged claim is detected", a.with("claims", json.RawMessage(claims))},
		{"missing events are detected", a.with("runtime_log", json.RawMessage("[]"))},
		{"another boot log is detected", a.with("boot_log", json.RawMessage(`"AAAA"`))},
	} {
		if err := s.judge(ctx, t.what, t.evidence, a.nonce, -1, args...); err != nil {
			return err
		}
	}
	return nil
}

// judge appraises and checks the exit code; want -1 stands for not authentic or
// malformed.
func (s *stage) judge(ctx context.Context, what string, bundle []byte, nonce string, want int, args ...string) error {
	code, why, err := s.appraise(ctx, bundle, nonce, args...)
	if err != nil {
		return err
	}
	ok := code == want || want == -1 && (code == 2 || code == 5)
	s.table.check(ok, what, "exit %d: %s", code, why)
	return nil
}
