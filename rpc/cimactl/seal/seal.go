// Package seal answers: how does a secret reach one proved container, and nobody else?
//
// The container makes a key, binds its public half into evidence, and keeps the other in
// one process. The relying party appraises, and seals to that key what it has to say.
package seal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/spf13/cobra"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/logs/canonical"
	"github.com/cima-project/cima/rpc/cimactl/command"
	"github.com/cima-project/cima/rpc/userdata"
)

// Bounds of a secret, and of it sealed and armoured, in bytes.
const (
	maxSecret = 1 << 20
	maxSealed = 2 << 20
)

// sealedProfile is that of what stands before the secret, a line of canonical JSON.
const sealedProfile = "https://github.com/cima-project/cima/sealed/v1"

// head says which exchange a sealed secret is of.
type head struct {
	Nonce   string `json:"nonce"` // hex
	Profile string `json:"profile"`
}

// maxHead bounds the line, in bytes: a nonce of 64 bytes, and the words.
const maxHead = 512

// Secret are the flags of `cimactl verify` that seal a secret.
type Secret struct {
	file  string
	plain []byte
	nonce []byte
}

// Flags adds them.
func (s *Secret) Flags(c *cobra.Command) {
	c.Flags().StringVar(&s.file, "seal", "", "`FILE` to seal to the container, on stdout, if trusted")
}

// Wanted reports whether a secret is to be sealed.
func (s *Secret) Wanted() bool { return s.file != "" }

// Prepare reads the secret, and refuses to seal where nobody says to whom.
func (s *Secret) Prepare(_ *cobra.Command, opts *verify.Options) (err error) {
	if s.file == "" {
		return nil
	}
	if opts.Policy == nil {
		return command.Hinted(errors.New("--seal must come with --policy: without one any container gets the secret"), "`cimactl policy init` makes one to begin with")
	}
	if s.nonce = opts.Nonce; s.nonce == nil {
		return command.Hinted(command.ErrNoNonce, "old evidence must not get a secret: give the nonce that you sent")
	}
	s.plain, err = command.ReadBounded(s.file, maxSecret)
	if err == nil && len(s.plain) == 0 {
		err = command.Hinted(fmt.Errorf("--seal: %s must not be empty", s.file), "did the command that wrote it fail?")
	}
	return err
}

// Write seals the secret to the recipient in judged claims, and writes it, unless the
// verdict is anything but trusted.
func (s *Secret) Write(c *cobra.Command, r *verify.Result) error {
	if s.file == "" {
		return nil
	}
	sealed, err := sealTo(r, s.nonce, s.plain)
	if err != nil {
		return err
	}
	_, err = c.OutOrStdout().Write(sealed)
	return err
}

// sealTo seals a secret for the container of an appraisal.
func sealTo(r *verify.Result, nonce, secret []byte) ([]byte, error) {
	if r.Verdict != verify.Trusted || r.Claims == nil {
		return nil, &command.Failure{Err: fmt.Errorf("nothing is sealed: %s: %s", r.Verdict, r.Reason), Code: max(r.Verdict.ExitCode(), command.Failed), Hint: r.Hint}
	}
	if !bytes.Equal(r.Claims.Nonce, nonce) || len(nonce) == 0 {
		return nil, errors.New("nothing is sealed: the evidence was not appraised with this nonce")
	}
	refused := func(err error, hint string) error {
		return &command.Failure{Err: fmt.Errorf("nothing is sealed: %w", err), Code: command.NotMet, Hint: hint}
	}
	name, err := userdata.ReadSeal(r.Claims.UserData)
	if userdata.IsOther(err) {
		return nil, refused(fmt.Errorf("the evidence binds no recipient: %w", err), "evidence for a secret is made by `cimactl unseal` in the container")
	}
	if err != nil {
		return nil, refused(err, "")
	}
	to, err := age.ParseHybridRecipient(name)
	if err != nil {
		return nil, refused(fmt.Errorf("the recipient must be a hybrid one, age1pq1…: %w", err), "an X25519 key alone can be broken later by a quantum computer that recorded this now")
	}
	text, err := canonical.Marshal(head{hex.EncodeToString(nonce), sealedProfile})
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	armoured := armor.NewWriter(&out)
	w, err := age.Encrypt(armoured, to)
	if err != nil {
		return nil, err
	}
	for _, part := range [][]byte{text, []byte("\n"), secret} {
		if _, err := w.Write(part); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(w.Close(), armoured.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// open returns the secret that was sealed to the key in this exchange.
func open(sealed []byte, key age.Identity, nonce []byte) ([]byte, error) {
	r, err := age.Decrypt(armor.NewReader(bytes.NewReader(sealed)), key)
	if err != nil {
		var other *age.NoIdentityMatchError
		if errors.As(err, &other) {
			return nil, command.Hinted(errors.New("this is not sealed to this process: its key is another's, or of an earlier start"), "each start of `cimactl unseal` has its own key: send its evidence, and seal again")
		}
		return nil, fmt.Errorf("what came is no sealed secret: %w", err)
	}
	plain, err := io.ReadAll(io.LimitReader(r, maxHead+maxSecret+1))
	if err != nil {
		return nil, fmt.Errorf("the sealed secret is cut off or changed: %w", err)
	}
	text, secret, found := bytes.Cut(plain, []byte("\n"))
	var h head
	if !found || len(text) > maxHead || canonical.Unmarshal(text, &h) != nil || h.Profile != sealedProfile {
		return nil, command.Hinted(errors.New("what was sealed to this process doesn't begin as `cimactl verify --seal` begins it"), "anybody can seal to a recipient: without the nonce inside nothing says which exchange it is of")
	}
	if h.Nonce != hex.EncodeToString(nonce) {
		return nil, errors.New("the secret was sealed for another nonce than this process was given")
	}
	if len(secret) > maxSecret {
		return nil, fmt.Errorf("a secret must have at most %d bytes", maxSecret)
	}
	return secret, nil
}
