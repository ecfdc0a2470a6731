// Package results answers: how does one hand an appraisal on, signed, from the command line?
package results

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/ear"
	"github.com/cima-project/cima/rpc/cimactl/command"
)

// Bounds of what is read, in bytes, and of a signer's time.
const (
	maxKey       = 64 << 10
	maxSignature = 1 << 10
	signerTime   = 30 * time.Second
)

// Token are the flags of `cimactl verify` that write an attestation result.
type Token struct {
	file, key, profile, issuer, signer string
	always                             bool

	public ear.Public
	sign   func(digest []byte) ([]byte, error)
}

// rare are the flags that `cimactl ear` tells of, so that the help of verify fits a screen.
var rare = []string{"ear-profile", "ear-issuer", "ear-always", "signer"}

// Flags adds them.
func (t *Token) Flags(c *cobra.Command) {
	c.Flags().StringVar(&t.file, "ear", "", "`FILE` to write a signed result to: see \"cimactl ear\"")
	c.Flags().StringVar(&t.key, "key", "", "with --ear: `PEM` of the key that signs")
	c.Flags().StringVar(&t.profile, "ear-profile", string(ear.Veraison), "`NAME` of the dialect: veraison or ietf-04")
	c.Flags().StringVar(&t.issuer, "ear-issuer", "cimactl", "`URI` of the verifier, the token's iss")
	c.Flags().BoolVar(&t.always, "ear-always", false, "write a token whatever the verdict is")
	c.Flags().StringVar(&t.signer, "signer", "", "`PROGRAM` that signs: SHA-256 on stdin, DER on stdout")
	for _, name := range rare {
		_ = c.Flags().MarkHidden(name)
	}
}

// Wanted reports whether a token is to be written.
func (t *Token) Wanted() bool { return t.file != "" }

// OnStdout reports whether it takes stdout.
func (t *Token) OnStdout() bool { return t.file == "-" }

// Prepare reads the key, and empties the file, before anything is appraised: a token of an
// earlier run must not be taken for this one's.
func (t *Token) Prepare(c *cobra.Command) (err error) {
	if t.file == "" {
		for _, name := range append([]string{"key"}, rare...) {
			if c.Flags().Changed(name) {
				return command.Usage(c, fmt.Errorf("--%s must come with --ear: it is about the token", name))
			}
		}
		return nil
	}
	if !slices.Contains(ear.Profiles, ear.Profile(t.profile)) {
		return command.Usage(c, fmt.Errorf("--ear-profile %q must be one of %v", t.profile, ear.Profiles))
	}
	if t.key == "" {
		return command.Hinted(errors.New("--ear must come with --key: a token is worth its signature"), "`cimactl ear key FILE` makes a key; `cimactl ear jwks FILE` gives its readers the public one")
	}
	key, public, err := readKey(t.key)
	if err != nil {
		return err
	}
	t.public = public
	switch {
	case t.signer != "":
		t.sign = func(digest []byte) ([]byte, error) { return signBy(c.Context(), t.signer, digest) }
	case key == nil:
		return command.Hinted(fmt.Errorf("%s must hold a private key: this is a public one", t.key), "a public key goes with --signer PROGRAM, which has the private one")
	default:
		t.sign = func(digest []byte) ([]byte, error) { return key.Sign(nil, digest, crypto.SHA256) }
	}
	if t.OnStdout() {
		return nil
	}
	f, err := os.Create(t.file)
	if err != nil {
		return err
	}
	return f.Close()
}

// Write writes the token about an appraisal. Without --ear-always only what is trusted
// gets one, because careless readers check the signature alone.
func (t *Token) Write(c *cobra.Command, r *verify.Result) error {
	if t.file == "" {
		return nil
	}
	if r.Verdict != verify.Trusted && !t.always {
		fmt.Fprintf(c.ErrOrStderr(), "cimactl: no token is written: the verdict is %q; --ear-always writes one for auditors\n", r.Verdict)
		return nil
	}
	claims, err := ear.Claims(r, ear.Options{Profile: ear.Profile(t.profile), Issuer: t.issuer, Now: time.Now()})
	if err != nil {
		return err
	}
	token, err := t.public.Sign(claims, t.sign)
	if err != nil {
		return fmt.Errorf("sign the token: %w", err)
	}
	if token = append(token, '\n'); t.OnStdout() {
		_, err = c.OutOrStdout().Write(token)
		return err
	}
	return os.WriteFile(t.file, token, 0o644)
}

// readKey reads a key. A file with a private key must be its owner's alone.
func readKey(path string) (crypto.Signer, ear.Public, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, ear.Public{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, ear.Public{}, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKey+1))
	if err != nil {
		return nil, ear.Public{}, err
	}
	if len(text) > maxKey {
		return nil, ear.Public{}, fmt.Errorf("%s must be a key of at most %d bytes", path, maxKey)
	}
	key, public, err := ear.Parse(text)
	if err != nil {
		return nil, ear.Public{}, command.Hinted(fmt.Errorf("%s: %w", path, err), "`cimactl ear key FILE` makes one")
	}
	if key != nil && openToOthers(info.Mode()) {
		return nil, ear.Public{}, command.Hinted(fmt.Errorf("%s must be its owner's alone: others may read it or write it (mode %04o), and then the token is anybody's", path, info.Mode().Perm()),
			"chmod 600 %s, if nobody had it yet; else make a new key", path)
	}
	return key, public, nil
}

// openToOthers: Windows has no such modes, and says nothing by them.
func openToOthers(m fs.FileMode) bool {
	return runtime.GOOS != "windows" && m.Perm()&0o077 != 0
}

// signBy lets a program sign, one that asks a hardware module for instance.
func signBy(ctx context.Context, program string, digest []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, signerTime)
	defer cancel()
	p := exec.CommandContext(ctx, program)
	p.Stdin, p.Stderr, p.WaitDelay = bytes.NewReader(digest), os.Stderr, time.Second
	out := &bounded{}
	p.Stdout = out
	if err := p.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w", program, err)
	}
	return out.got, nil
}

// bounded takes a signature, and no more.
type bounded struct{ got []byte }

func (b *bounded) Write(p []byte) (int, error) {
	if len(b.got)+len(p) > maxSignature {
		return 0, fmt.Errorf("a signature must have at most %d bytes", maxSignature)
	}
	b.got = append(b.got, p...)
	return len(p), nil
}
