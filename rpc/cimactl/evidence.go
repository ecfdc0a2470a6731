package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json/jsontext"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/cimactl/command"
	"github.com/cima-project/cima/rpc/form"
	"github.com/cima-project/cima/rpc/userdata"
)

// maxJWK bounds the bytes of a public key.
const maxJWK = 16 << 10

func evidenceCommand() *cobra.Command {
	var nonce, userData, jwk, format string
	var shared bool
	c := &cobra.Command{
		Use:   "evidence --nonce HEX",
		Short: "Get evidence about the caller, as JSON",
		Long: `Get evidence about the caller: a quote, what it is bound to, and the logs
behind its registers. The relying party chooses the nonce.`,
		Example: `  cimactl evidence --nonce "$NONCE" >evidence.json
  echo "$NONCE" | cimactl evidence --nonce - --user-data tls-key.der`,
		Args: cobra.NoArgs,
	}
	nonceFlags(c, &nonce, &userData)
	c.Flags().StringVar(&jwk, "jwk", "", "`FILE` with the public JWK of a key broker's client")
	sharedFlag(c, &shared)
	waitFlag(c)
	c.Flags().StringVar(&format, "format", form.CIMA, "`FORM` to write (see \"cimactl convert\")")
	completeForms(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := checkForm(format); err != nil {
			return err
		}
		n, data, err := bound(c, nonce, userData)
		if err == nil && jwk != "" {
			data, err = boundKey(jwk, userData)
		}
		if err != nil {
			return err
		}
		d, err := client(c)
		if err != nil {
			return err
		}
		defer d.Close()
		params := rpc.EvidenceParams{Nonce: n, UserData: data, Shared: shared}
		if format != form.CIMA {
			bundle, err := retry(c, d, func() (result jsontext.Value, err error) {
				err = d.Call(c.Context(), rpc.MethodGetEvidence, params, &result)
				return result, err
			})
			if err != nil {
				return err
			}
			e, _, err := rpc.DecodeEvidence(bundle)
			if err != nil {
				return fmt.Errorf("the daemon's evidence: %w", err)
			}
			return writeForm(c, e, format)
		}
		// The bundle is written as it came, because its bytes are bound.
		return printRaw(c, d, rpc.MethodGetEvidence, params)
	}
	return c
}

func nonceFlags(c *cobra.Command, nonce, userData *string) {
	c.Flags().StringVar(nonce, "nonce", "", "the relying party's `HEX`; - reads a line of stdin")
	c.Flags().StringVar(userData, "user-data", "", "`FILE` to bind, up to 4 KiB: a hash of the TLS key")
}

func sharedFlag(c *cobra.Command, shared *bool) {
	c.Flags().BoolVar(shared, "shared", false, "share a quote with others who say so: faster in a crowd")
}

// bound reads what a quote must be bound to.
func bound(c *cobra.Command, nonce, userData string) (n, data []byte, err error) {
	if n, err = command.ReadNonce(nonce, c.InOrStdin()); err != nil || userData == "" {
		return n, nil, err
	}
	data, err = command.ReadUserData(userData)
	return n, data, err
}

// boundKey is the user data that binds a key for a key broker, and nothing else.
func boundKey(path, userData string) ([]byte, error) {
	if userData != "" {
		return nil, errors.New("--jwk and --user-data must not both be given: each binds something of its own")
	}
	text, err := command.ReadBounded(path, maxJWK)
	if err != nil {
		return nil, err
	}
	key, err := userdata.ParseJWK(text)
	if err != nil {
		return nil, command.Hinted(fmt.Errorf("%s: %w", path, err), "cima-access(7), KEY BROKERS, shows such a key")
	}
	return userdata.TEEPubkey(key)
}

func nonceCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "nonce",
		Short: "Print a fresh nonce, as a relying party needs one",
		Example: `  NONCE=$(cimactl nonce)
  # send it to the container, and keep it for "cimactl verify"`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			n := make([]byte, 32)
			rand.Read(n) // never fails (crypto/rand)
			_, err := fmt.Fprintln(c.OutOrStdout(), hex.EncodeToString(n))
			return err
		},
	}
}
