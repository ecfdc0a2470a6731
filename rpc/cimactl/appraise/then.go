package appraise

import (
	"errors"
	"io"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/rpc/cimactl/command"
	"github.com/cima-project/cima/rpc/cimactl/results"
	"github.com/cima-project/cima/rpc/cimactl/seal"
)

// handedOn is what comes of an appraisal besides its result: a token, a sealed secret.
type handedOn struct {
	token  results.Token
	secret seal.Secret
}

func (h *handedOn) flags(c *cobra.Command) {
	h.token.Flags(c)
	h.secret.Flags(c)
}

// prepare refuses what can't be done before anything is appraised.
func (h *handedOn) prepare(c *cobra.Command, opts *verify.Options, single, asJSON bool) error {
	if err := h.token.Prepare(c); err != nil {
		return err
	}
	switch {
	case !h.token.Wanted() && !h.secret.Wanted():
		return nil
	case !single:
		return errors.New("--ear and --seal must come with one EVIDENCE: a token, or a secret, is for one container")
	case h.token.Wanted() && !opts.At.IsZero():
		return command.Hinted(errors.New("--ear must come without --at: a token says what is so now, and whoever reads it knows of no other time"), "--json writes a result of another time, which it names")
	case h.token.OnStdout() && h.secret.Wanted():
		return errors.New("--seal writes to stdout: --ear must name a file")
	case asJSON && (h.token.OnStdout() || h.secret.Wanted()):
		return command.Hinted(errors.New("--json must not come with --seal, or with --ear -: stdout has room for one"), "--ear FILE writes the result for programs to a file")
	}
	return h.secret.Prepare(c, opts)
}

// resultTo is where the result is printed: stderr where something else takes stdout.
func (h *handedOn) resultTo(c *cobra.Command) io.Writer {
	if h.token.OnStdout() || h.secret.Wanted() {
		return c.ErrOrStderr()
	}
	return c.OutOrStdout()
}

func (h *handedOn) write(c *cobra.Command, r *verify.Result) error {
	if err := h.token.Write(c, r); err != nil {
		return err
	}
	return h.secret.Write(c, r)
}
