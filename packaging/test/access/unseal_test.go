package access

import (
	"strings"
	"testing"
)

// gets is the command line of a container that waits for a secret. Its nonce comes by
// stdin, so that the launch digest is the same each time.
var gets = []string{"/cimactl", "unseal", "--nonce", "-", "--", "/bin/sh", "-c", "echo got:; cat <&3; env | grep -c hunter2; cat"}

const secret = "hunter2\nline two\n"

// asks starts a container that waits for a secret, and gives its evidence.
func (s *stage) asks(image, nonce string, line ...string) (*container, string) {
	s.Helper()
	k := s.start(image, nil, line...)
	k.says(nonce + "\n")
	return k, s.file(k.name+".json", k.line())
}

// seal is the relying party's side.
func (s *stage) seal(evidence, nonce string) ran {
	s.Helper()
	return s.cimactl("verify", evidence, "--nonce", nonce, "--policy", "policy.toml", "--trust-root", root, "--seal", "secret.txt")
}

// The right container opens what was sealed to it. Nobody else gets anything, each by a
// message of its own.
func TestUnseal(t *testing.T) {
	s := newStage(t)
	nonce := func() string { return strings.TrimSpace(s.cimactl("nonce").well()) }
	s.file("secret.txt", secret)

	// A good run makes the policy. Later starts of the same line are the same container.
	first, _ := s.asks(app, nonce(), gets...)
	s.policy("policy.toml", first.line())

	n := nonce()
	right, evidence := s.asks(app, n, gets...)
	sealed := s.seal(evidence, n).well()
	if strings.Contains(sealed, "hunter2") {
		t.Fatal("what is sealed shows the secret")
	}
	right.says(sealed + "for the program\n")
	right.in.Close()
	if code := right.code(); code != 0 {
		t.Errorf("it ended with %d", code)
	}
	_, got, _ := strings.Cut(right.out.String(), "\n")
	if want := "got:\n" + secret + "0\nfor the program\n"; got != want {
		t.Errorf("the program got %q, want %q: %s", got, want, right.stderr)
	}

	// Another container, another launch.
	m := nonce()
	_, evidence = s.asks(other, m, gets...)
	s.seal(evidence, m).refused(4, "nothing is sealed: authentic, not trusted: caller-values", "image")
	m = nonce()
	_, evidence = s.asks(app, m, append(gets[:len(gets)-1:len(gets)-1], "cat <&3")...)
	s.seal(evidence, m).refused(4, "nothing is sealed: authentic, not trusted: caller-values", "launch digest")

	// Evidence that was good once.
	s.seal(right.name+".json", nonce()).refused(2, "nothing is sealed: not authentic: nonce")

	// Evidence of the right launch that binds no recipient: the command line is the same.
	m = nonce()
	waiting, _ := s.asks(app, nonce(), gets...)
	bare := s.file("bare.json", s.inside(waiting, "", "/cimactl", "evidence", "--nonce", m).well())
	s.seal(bare, m).refused(4, "nothing is sealed: the evidence binds no recipient", "made by `cimactl unseal`")

	// What was sealed to one process opens in no other: neither in another container, nor
	// in the same launch started again.
	thief, _ := s.asks(other, n, gets...)
	again, _ := s.asks(app, n, gets...)
	for _, k := range []*container{thief, again, waiting} {
		k.says(sealed)
		k.in.Close()
		if code := k.code(); code == 0 || strings.Contains(k.out.String(), "got:") {
			t.Errorf("%s ended with %d: %s", k.name, code, k.out)
		}
		if want := "this is not sealed to this process"; !strings.Contains(k.stderr.String(), want) {
			t.Errorf("%s must say %q: %s", k.name, want, k.stderr)
		}
	}
}
