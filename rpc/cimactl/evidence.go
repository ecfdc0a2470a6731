package main

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/form"
)

func evidenceCommand() *cobra.Command {
	var nonce, userData, format string
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
	sharedFlag(c, &shared)
	c.Flags().StringVar(&format, "format", form.CIMA, "`FORM` to write (see \"cimactl convert\")")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := checkForm(format); err != nil {
			return err
		}
		n, data, err := bound(c, nonce, userData)
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
	if n, err = readNonce(nonce, c.InOrStdin()); err != nil || userData == "" {
		return n, nil, err
	}
	data, err = readUserData(userData)
	return n, data, err
}

// readUserData reads what binds a channel. An empty file binds none.
func readUserData(path string) ([]byte, error) {
	data, err := readBounded(path, rpc.MaxUserData)
	if errors.Is(err, errLarge) {
		return nil, hinted(err, "bind a hash of it: sha512sum FILE | cut -d' ' -f1 >bound")
	}
	if err == nil && len(data) == 0 {
		err = hinted(fmt.Errorf("--user-data: %s must not be empty: it would bind nothing", path), "did the command that wrote it fail?")
	}
	return data, err
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

var errNoNonce = errors.New("a nonce must be given: without one the evidence could be old")

// readNonce reads hex from the flag, or from a line of stdin.
func readNonce(flag string, stdin io.Reader) ([]byte, error) {
	if flag == "" {
		return nil, hinted(errNoNonce, "give what the relying party sent as --nonce HEX; `cimactl nonce` makes one")
	}
	if flag == "-" {
		line, err := bufio.NewReader(io.LimitReader(stdin, 4096)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read the nonce: %w", err)
		}
		flag = strings.TrimSpace(line)
	}
	nonce, err := hex.DecodeString(flag)
	if err != nil {
		return nil, hinted(fmt.Errorf("the nonce must be hex: %w", err), "write a nonce as 16 to 128 hex digits; `base64 -d | od -An -v -tx1 | tr -d ' \\n'` makes them of base64")
	}
	if len(nonce) < rpc.MinNonce || len(nonce) > rpc.MaxNonce {
		return nil, fmt.Errorf("a nonce must have %d to %d bytes, this one has %d", rpc.MinNonce, rpc.MaxNonce, len(nonce))
	}
	return nonce, nil
}

// readBounded reads a file, or stdin for "-", of at most limit bytes.
func readBounded(path string, limit int64) ([]byte, error) {
	f := os.Stdin
	if path != "-" {
		var err error
		if f, err = os.Open(path); err != nil {
			return nil, err
		}
		defer f.Close()
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err // which names the file
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s: %w: it must have at most %d bytes", path, errLarge, limit)
	}
	return b, nil
}
