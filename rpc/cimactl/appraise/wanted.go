package appraise

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/hw/verify/signers"
	"github.com/cima-project/cima/rpc/cimactl/command"
	"github.com/cima-project/cima/rpc/cimactl/instead"
)

// maxKeys bounds a file of allowed signers, in bytes.
const maxKeys = 1 << 20

// Wanted is what evidence is compared with.
type Wanted struct {
	userData string   // a file
	Policies []string // files: reference values, then revocations
	keys     string   // a file of allowed signers; empty: policies need no signature
}

// Flags adds the flag that every command with a policy has.
func (w *Wanted) Flags(c *cobra.Command) {
	c.Flags().StringVar(&w.keys, "policy-keys", "", "`FILE` of allowed signers: the policy must be signed")
}

// Read reads it into the options of an appraisal.
func (w *Wanted) Read(c *cobra.Command, opts *verify.Options) (err error) {
	opts.Verifier = "cimactl " + c.Root().Version
	if w.userData != "" {
		b, err := command.ReadUserData(w.userData)
		if err != nil {
			return err
		}
		opts.UserData = &b
	}
	switch len(w.Policies) {
	case 0:
		if w.keys != "" {
			return errors.New("--policy-keys must come with --policy: it says who must have signed it")
		}
		return nil
	case 1, 2:
	default:
		return errors.New("--policy must be given at most twice: a policy, and a file of revocations")
	}
	opts.Policy, err = w.readPolicy(opts.At)
	return err
}

// readPolicy reads the policy's files, each with its signature where one is wanted.
func (w *Wanted) readPolicy(at time.Time) (p *policy.Policy, err error) {
	var keys *signers.Allowed
	if w.keys != "" {
		text, err := command.ReadBounded(w.keys, maxKeys)
		if err != nil {
			return nil, err
		}
		if keys, err = signers.Parse(text); err != nil {
			return nil, command.Hinted(fmt.Errorf("%s: %w", w.keys, err), "ssh-keygen(1), ALLOWED SIGNERS, shows the lines: NAME KEYTYPE KEY")
		}
	}
	if at.IsZero() {
		at = time.Now()
	}
	for i, path := range w.Policies {
		text, err := command.ReadBounded(path, command.MaxPolicy)
		if err != nil {
			return nil, fmt.Errorf("policy: %w", err)
		}
		who := ""
		if keys != nil {
			if who, err = signerOf(keys, path, text, at); err != nil {
				return nil, err
			}
		}
		if i == 0 {
			p, err = policy.Parse(path, text)
		} else {
			err = p.Revoke(path, text)
		}
		if err != nil {
			return nil, command.Hinted(err, "%s", policyHint(text))
		}
		p.Sources[i].SignedBy = who
	}
	return p, nil
}

// signerOf checks the signature in FILE.sig over the text of a policy.
func signerOf(keys *signers.Allowed, path string, text []byte, at time.Time) (string, error) {
	how := "the signer writes %s.sig with `ssh-keygen -Y sign -n " + signers.Namespace + " -f KEY %s`"
	signature, err := command.ReadBounded(path+".sig", signers.MaxSignature)
	if errors.Is(err, os.ErrNotExist) {
		return "", command.Hinted(fmt.Errorf("policy %s must be signed: there is no %s.sig", path, path), how, path, path)
	}
	if err != nil {
		return "", err
	}
	who, err := keys.Check(text, signature, at)
	if err != nil {
		return "", command.Hinted(fmt.Errorf("policy %s: %w", path, err), how, path, path)
	}
	return who, nil
}

// policyHint says what to do about a policy that can't be read.
func policyHint(text []byte) string {
	if said := instead.OfPolicy(text); said != "" {
		return said
	}
	return "cima-policy(5) has examples; `cimactl policy init EVIDENCE` writes a policy to begin with"
}
