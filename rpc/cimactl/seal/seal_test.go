package seal

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/hw/verify/verifytest"
	"github.com/cima-project/cima/rpc/cimactl/command"
	"github.com/cima-project/cima/rpc/userdata"
)

var nonce, later = []byte("nonce of a test!"), []byte("nonce of another")

// told fails where an error doesn't say this.
func told(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v: it must say %q", err, want)
	}
}

func identity(t *testing.T) (key *age.HybridIdentity, bound []byte) {
	t.Helper()
	key, err := age.GenerateHybridIdentity()
	if err == nil {
		bound, err = userdata.Seal(key.Recipient().String())
	}
	if err != nil {
		t.Fatal(err)
	}
	return key, bound
}

// The right container opens what was sealed to it. Everybody else is refused, each by a
// message of its own.
func TestWhoGetsASecret(t *testing.T) {
	d := verifytest.Boot(t, sim.Config{})
	right := d.Launch("1", "registry/app:1", "serve")
	key, bound := identity(t)
	first := d.Evidence(right, nonce, bound)
	_, p := d.Policy(d.Appraise(first, nonce, nil))
	secret := []byte("line one\nline two\x00")

	sealed, err := sealTo(d.Appraise(first, nonce, p), nonce, secret)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := open(sealed, key, nonce); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("%q, %v", got, err)
	}

	image, launch := d.Launch("2", "registry/other:1", "serve"), d.Launch("3", "registry/app:1", "serve --debug")
	plain, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	classic, err := userdata.Seal(plain.Recipient().String())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		id    string
		bound []byte
		made  []byte // the nonce that the evidence is of
		p     *policy.Policy
		want  string
	}{
		"another image":         {image, bound, nonce, p, "authentic, not trusted: caller-values"},
		"another launch":        {launch, bound, nonce, p, "launch digest is none of the policy's"},
		"replayed":              {right, bound, later, p, "not authentic: nonce"},
		"no recipient":          {right, nil, nonce, p, "binds no recipient: the user data is of another use: there is none"},
		"another use":           {right, []byte(`{"profile":"https://github.com/cima-project/cima/tls/v1","root":"00","size":1}`), nonce, p, "binds no recipient"},
		"recipient with others": {right, bytes.Replace(bound, []byte(`"recipient"`), []byte(`"more":1,"recipient"`), 1), nonce, p, "more"},
		"classic recipient":     {right, classic, nonce, p, "must be a hybrid one"},
		"no policy":             {right, bound, nonce, nil, "authentic, not trusted: boot-values"},
	} {
		got, err := sealTo(d.Appraise(d.Evidence(c.id, c.made, c.bound), nonce, c.p), nonce, secret)
		if told(t, err, c.want); got != nil {
			t.Errorf("%s: it was sealed all the same", name)
		}
		var f *command.Failure
		if !errors.As(err, &f) || f.Code == 0 {
			t.Errorf("%s: exit code 0", name)
		}
	}
	trusted := *d.Appraise(first, nonce, p)
	_, err = sealTo(&trusted, later, secret)
	told(t, err, "not appraised with this nonce")
	trusted.Verdict = verify.Authentic // of a bare quote: its exit code is 0
	_, err = sealTo(&trusted, nonce, secret)
	told(t, err, "nothing is sealed: authentic")
	if f := new(command.Failure); !errors.As(err, &f) || f.Code == 0 {
		t.Errorf("%v ends with 0", err)
	}

	other, _ := identity(t)
	_, err = open(sealed, other, nonce)
	told(t, err, "not sealed to this process")
	_, err = open(sealed, key, later)
	told(t, err, "sealed for another nonce")
	_, err = open(sealed[:len(sealed)/2], key, nonce)
	told(t, err, "no sealed secret")
	_, err = open([]byte("secret"), key, nonce)
	told(t, err, "no sealed secret")
}

// armoured is what anybody can seal to a recipient that is public.
func armoured(t testing.TB, key *age.HybridIdentity, text string) []byte {
	t.Helper()
	var out bytes.Buffer
	a := armor.NewWriter(&out)
	w, err := age.Encrypt(a, key.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.WriteString(w, text)
	if err := errors.Join(err, w.Close(), a.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// What is sealed by others, or is too large, is refused.
func TestOpenRefuses(t *testing.T) {
	key, _ := identity(t)
	const head = `{"nonce":"6e6f6e6365206f662061207465737421","profile":"https://github.com/cima-project/cima/sealed/v1"}` + "\n"
	if got, err := open(armoured(t, key, head+"s"), key, nonce); err != nil || string(got) != "s" {
		t.Fatalf("%q, %v", got, err)
	}
	for _, text := range []string{"", "secret", "secret\n", "{}\nsecret", strings.Replace(head, "sealed/v1", "sealed/v2", 1), strings.Replace(head, "{", `{"a":1,`, 1), strings.Repeat(" ", maxHead) + head} {
		_, err := open(armoured(t, key, text), key, nonce)
		told(t, err, "doesn't begin as")
	}
	if _, err := open(armoured(t, key, head+strings.Repeat("s", maxSecret)), key, nonce); err != nil {
		t.Error(err)
	}
	_, err := open(armoured(t, key, head+strings.Repeat("s", maxSecret+1)), key, nonce)
	told(t, err, "at most")
}

// A secret is sealed by a policy and for a nonce, or not at all.
func TestPrepare(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, c := range map[string]struct {
		file string
		opts verify.Options
	}{
		"without one any container gets the secret": {file, verify.Options{Nonce: nonce}},
		"nonce":             {file, verify.Options{Policy: new(policy.Policy)}},
		"must not be empty": {empty, verify.Options{Policy: new(policy.Policy), Nonce: nonce}},
	} {
		s := Secret{file: c.file}
		told(t, s.Prepare(nil, &c.opts), want)
	}
	s := Secret{file: file}
	if err := s.Prepare(nil, &verify.Options{Policy: new(policy.Policy), Nonce: nonce}); err != nil || string(s.plain) != "s" {
		t.Errorf("%q, %v", s.plain, err)
	}
}
