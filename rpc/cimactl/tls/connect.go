package tls

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/hw/verify/peers"
	"github.com/cima-project/cima/hw/verify/replay"
	"github.com/cima-project/cima/rpc/atls"
	"github.com/cima-project/cima/rpc/cimactl/appraise"
	"github.com/cima-project/cima/rpc/cimactl/command"
)

type connecting struct {
	listen    string
	cert, key string
	prove     bool
	reattest  time.Duration
	judging   judging
}

func connectCommand() *cobra.Command {
	var k connecting
	c := &cobra.Command{
		Use:   "connect HOST:PORT --policy FILE",
		Short: "At the relying party: connect to a container that proves itself",
		Long: `Connect to a container behind "cimactl tls serve". Nothing is sent before its
evidence has the verdict trusted by the policy. Without --listen one session has
stdin and stdout.

Exit status: that of verify if the container isn't trusted (2, 4, 5); 1 any
other error.`,
		Example: `  cimactl tls connect HOST:8443 --policy policy.toml --listen 127.0.0.1:9000
  echo hello | cimactl tls connect HOST:8443 --policy policy.toml`,
		Args: cobra.ExactArgs(1),
	}
	c.Flags().StringVar(&k.listen, "listen", "", "a session for each connection to this `ADDRESS`")
	c.Flags().StringVar(&k.cert, "client-cert", "", "`PEM` of a certificate for servers with --client-ca")
	c.Flags().StringVar(&k.key, "client-key", "", "`PEM` of its key")
	c.Flags().BoolVar(&k.prove, "prove", false, "prove this container, too, to a server that asks")
	c.Flags().DurationVar(&k.reattest, "reattest", 0, "attest open sessions again each `TIME`, 1m or more")
	k.judging.flags(c, "`FILE` of reference values; a second has revocations")
	c.RunE = func(c *cobra.Command, args []string) error { return k.run(c, args[0]) }
	return c
}

func (k *connecting) run(c *cobra.Command, to string) error {
	if err := k.check(c); err != nil {
		return err
	}
	a, err := k.judging.appraiser(c)
	if err != nil {
		return err
	}
	if a == nil {
		return command.Hinted(errors.New("--policy must be given: without one nobody in particular is trusted"), "`cimactl policy init` writes one from evidence of a good run")
	}
	d := &atls.Dialer{Appraiser: a}
	if k.cert != "" {
		own, err := tls.LoadX509KeyPair(k.cert, k.key)
		if err != nil {
			return fmt.Errorf("--client-cert %s, --client-key %s: %w", k.cert, k.key, err)
		}
		d.Config = &tls.Config{Certificates: []tls.Certificate{own}}
	}
	if k.prove {
		p, client, err := prover(c)
		if err != nil {
			return err
		}
		defer client.Close()
		d.Prover = p
	}
	if k.listen == "" {
		return k.once(c, d, to)
	}
	l, err := net.Listen(network(k.listen))
	if err != nil {
		return err
	}
	defer context.AfterFunc(c.Context(), func() { l.Close() })()
	defer l.Close()
	said := &notes{to: c.ErrOrStderr()}
	fmt.Fprintf(c.ErrOrStderr(), "cimactl: connections to %s go to %s\n", l.Addr(), to)
	return each(l, func(nc net.Conn) {
		session, err := k.dial(c.Context(), d, to, said)
		if err != nil {
			nc.Close()
			said.say("%s", replay.Printable(err.Error()))
			return
		}
		defer context.AfterFunc(c.Context(), func() { session.Close() })()
		carry(session, nc.(halfCloser))
	})
}

func (k *connecting) check(c *cobra.Command) error {
	if k.reattest != 0 && k.reattest < time.Minute {
		return command.Usage(c, fmt.Errorf("--reattest %v must be at least 1m", k.reattest))
	}
	if (k.cert == "") != (k.key == "") {
		return command.Usage(c, errors.New("--client-cert and --client-key must come together"))
	}
	if k.listen == "" {
		return nil
	}
	return checkAddress("listen", k.listen)
}

// dial opens a session, and attests it again as long as it lives.
func (k *connecting) dial(ctx context.Context, d *atls.Dialer, to string, said *notes) (*atls.Conn, error) {
	kind, at := network(to)
	nc, err := d.DialContext(ctx, kind, at)
	if err != nil {
		return nil, err
	}
	session := nc.(*atls.Conn)
	if k.reattest > 0 {
		go func() {
			for {
				select {
				case <-session.Closed():
					return
				case <-time.After(k.reattest):
				}
				if err := session.Reattest(ctx); err != nil {
					if !errors.Is(err, net.ErrClosed) {
						said.say("a session was closed: %s", replay.Printable(err.Error()))
					}
					return
				}
			}
		}()
	}
	return session, nil
}

// once carries one session over stdin and stdout.
func (k *connecting) once(c *cobra.Command, d *atls.Dialer, to string) error {
	session, err := k.dial(c.Context(), d, to, &notes{to: c.ErrOrStderr()})
	if err != nil {
		return refusal(err)
	}
	defer session.Close()
	defer context.AfterFunc(c.Context(), func() { session.Close() })()
	go func() {
		if _, err := io.Copy(session, c.InOrStdin()); err == nil {
			session.CloseWrite()
		}
	}()
	_, err = io.Copy(c.OutOrStdout(), session)
	// Where it left bytes of ours unread, the connection ends by a reset.
	var network *net.OpError
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &network) {
		return command.Hinted(fmt.Errorf("%s closed the session, and not in order: %w", to, err), "if it wants evidence or a certificate of this end, its log says why it refused it")
	}
	return err
}

// refusal gives a verdict its exit code and its first reason.
func refusal(err error) error {
	var refused *peers.RefusedError
	if !errors.As(err, &refused) {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return command.Hinted(err, "is `cimactl tls serve` what listens there?")
		}
		return appraise.CollateralFailure(err)
	}
	hint := refused.Result.Hint
	for _, s := range refused.Result.Failed() {
		if hint == "" {
			hint = fmt.Sprintf("step %s: %s", s.Name, s.Detail)
		}
	}
	return &command.Failure{Err: err, Code: refused.Result.Verdict.ExitCode(), Hint: hint}
}
