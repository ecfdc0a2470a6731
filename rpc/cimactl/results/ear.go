package results

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/hw/verify/ear"
	"github.com/cima-project/cima/rpc/cimactl/command"
)

// Command is `cimactl ear`.
func Command() *cobra.Command {
	c := &cobra.Command{
		Use:   "ear",
		Short: "Make keys for signed attestation results",
		Long: `Make keys for signed attestation results (EAR): with --ear FILE and --key PEM,
"cimactl verify" writes one as a JWT, ES256, good for five minutes, and only
where the verdict is trusted. More flags of verify are about it:

  --ear-issuer URI    the token's iss (default "cimactl")
  --ear-profile NAME  veraison, or ietf-04 for draft-ietf-rats-ear-04
  --ear-always        write it whatever the verdict is: for auditors
  --signer PROGRAM    gets the SHA-256 on stdin, prints the signature (DER);
                      --key has the public key then`,
		Example: `  cimactl ear key verifier.pem
  cimactl ear jwks verifier.pem >jwks.json
  cimactl verify evidence.json --nonce "$NONCE" --policy policy.toml \
    --ear result.jwt --key verifier.pem`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(keyCommand(), jwksCommand())
	return c
}

func keyCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "key FILE",
		Short:   "Make a key that signs results, in a new file",
		Example: "  cimactl ear key verifier.pem",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			text, err := ear.NewKey()
			if err != nil {
				return err
			}
			f, err := os.OpenFile(args[0], os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return command.Hinted(err, "a key is never written over another one: name a new file")
			}
			if _, err := f.Write(text); err != nil {
				f.Close()
				return err
			}
			return f.Close()
		},
	}
}

func jwksCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "jwks FILE…",
		Short:             "Print the public keys (JWKS) for the readers of results",
		Example:           "  cimactl ear jwks verifier.pem >jwks.json",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: command.Files([]string{"pem"}),
		RunE: func(c *cobra.Command, args []string) error {
			var keys []ear.Public
			for _, path := range args {
				_, public, err := readKey(path)
				if err != nil {
					return err
				}
				keys = append(keys, public)
			}
			set, err := ear.JWKS(keys...)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s\n", set)
			return err
		},
	}
}
