package tls

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/hw/verify/replay"
	"github.com/cima-project/cima/rpc/atls"
	"github.com/cima-project/cima/rpc/cimactl/appraise"
	"github.com/cima-project/cima/rpc/cimactl/command"
)

type serving struct {
	listen, forward, clientCA string
	judging                   judging
}

func serveCommand() *cobra.Command {
	var s serving
	c := &cobra.Command{
		Use:   "serve {--forward ADDRESS | -- PROGRAM ARG…}",
		Short: "In a container: take attested sessions, and pass them on",
		Long: `Take sessions, prove in each which container this is, and pass them on to a
service. Without --forward, PROGRAM gets the socket to listen on as descriptor 3
(LISTEN_FDS, as sd_listen_fds(3) reads it), which nobody else can take.
With --policy clients must prove themselves, too.

Exit status: PROGRAM's, or 1.`,
		Example: `  cimactl tls serve --listen :8443 --forward unix:/run/app.sock
  cimactl tls serve --listen :8443 -- app --verbose`,
		Args: cobra.ArbitraryArgs,
	}
	c.Flags().StringVar(&s.listen, "listen", ":8443", "take sessions at `ADDRESS`")
	c.Flags().StringVar(&s.forward, "forward", "", "pass them on to `ADDRESS`, HOST:PORT or unix:PATH")
	c.Flags().StringVar(&s.clientCA, "client-ca", "", "`PEM` of who must have signed clients' certificates")
	s.judging.flags(c, "`FILE` of reference values that clients must meet")
	c.RunE = func(c *cobra.Command, args []string) error {
		if c.ArgsLenAtDash() > 0 || len(args) > 0 && c.ArgsLenAtDash() < 0 {
			return command.Usage(c, errors.New("PROGRAM must follow --"))
		}
		return s.run(c, args)
	}
	return c
}

func (s *serving) run(c *cobra.Command, program []string) error {
	if s.forward == "" && len(program) == 0 {
		return command.Hinted(errors.New("--forward or PROGRAM must be given: somebody must serve"), "as in --forward 127.0.0.1:8080, or -- app")
	}
	for flag, address := range map[string]string{"listen": s.listen, "forward": s.forward} {
		if address == "" {
			continue
		}
		if err := checkAddress(flag, address); err != nil {
			return err
		}
	}
	said := &notes{to: c.ErrOrStderr()}
	l, closed, err := s.open(c, said)
	if err != nil {
		return err
	}
	defer closed()
	ctx, stop := context.WithCancelCause(c.Context())
	defer stop(nil)
	up := s.forward
	if len(program) > 0 {
		p, err := start(ctx, c, program, up == "")
		if err != nil {
			return err
		}
		if up == "" {
			up = p.address
		}
		go func() { stop(p.wait()) }()
		defer p.end()
	}
	undo := context.AfterFunc(ctx, func() { l.Close() })
	defer undo()
	fmt.Fprintf(c.ErrOrStderr(), "cimactl: sessions at %s go to %s\n", l.Addr(), up)
	if err := each(l, func(nc net.Conn) { pass(ctx, nc.(*atls.Conn), up, said) }); err != nil {
		return err
	}
	var ended command.Exit
	if errors.As(context.Cause(ctx), &ended) {
		return ended
	}
	return nil
}

// open listens for sessions.
func (s *serving) open(c *cobra.Command, said *notes) (l *atls.Listener, closed func(), err error) {
	server := atls.Server{Refused: func(from net.Addr, err error) {
		said.say("a session of %s was refused: %s", from, replay.Printable(err.Error()))
	}}
	a, err := s.judging.appraiser(c)
	if err != nil {
		return nil, nil, err
	}
	if a != nil {
		server.Appraiser = a
	}
	if s.clientCA != "" {
		roots, err := appraise.ReadRoots(s.clientCA)
		if err != nil {
			return nil, nil, err
		}
		server.Config = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: x509.NewCertPool()}
		for _, r := range roots {
			server.Config.ClientCAs.AddCert(r)
		}
	}
	p, client, err := prover(c)
	if err != nil {
		return nil, nil, err
	}
	server.Prover = p
	below, err := net.Listen(network(s.listen))
	if err == nil {
		l, err = server.Listen(below)
	}
	if err != nil {
		return nil, nil, errors.Join(err, client.Close())
	}
	return l, func() { l.Close(); client.Close() }, nil
}

// pass carries a session to the service.
func pass(ctx context.Context, session *atls.Conn, to string, said *notes) {
	defer context.AfterFunc(ctx, func() { session.Close() })()
	kind, at := network(to)
	up, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, kind, at)
	if err != nil {
		session.Close()
		said.say("the service doesn't answer: %v", err)
		return
	}
	carry(session, up.(halfCloser))
}
