// Package tls answers: how does a program without a line of CIMA serve and connect over
// attested TLS?
package tls

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/hw/verify/peers"
	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/cimactl/appraise"
	"github.com/cima-project/cima/rpc/cimactl/command"
	"github.com/cima-project/cima/rpc/tree"
)

// maxSessions bounds how many sessions are carried at a time.
const maxSessions = rpc.MaxShared

// Command is the command `cimactl tls`.
func Command() *cobra.Command {
	c := &cobra.Command{
		Use:   "tls",
		Short: "Connections that end in the right container",
		Long: `Connections of TLS 1.3 whose end proved by evidence which container it is, for
programs that know nothing of it. cima-access(7) says what is proved.`,
		Example: `  cimactl tls serve --listen :8443 --forward 127.0.0.1:8080
  cimactl tls connect HOST:8443 --policy policy.toml --listen 127.0.0.1:9000`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(serveCommand(), connectCommand(), inheritCommand())
	return c
}

// judging holds the flags that say whom this end trusts.
type judging struct {
	wanted appraise.Wanted
	trust  appraise.Trust
}

func (j *judging) flags(c *cobra.Command, policy string) {
	c.Flags().StringArrayVar(&j.wanted.Policies, "policy", nil, policy)
	_ = c.MarkFlagFilename("policy", "toml")
	j.wanted.Flags(c)
	j.trust.Flags(c)
}

// appraiser is nil if no policy is given.
func (j *judging) appraiser(c *cobra.Command) (*peers.Appraiser, error) {
	opts, err := j.trust.Options(c)
	if err != nil {
		return nil, err
	}
	if err := j.wanted.Read(c, &opts); err != nil || opts.Policy == nil {
		return nil, err
	}
	return &peers.Appraiser{Options: opts}, nil
}

// prover asks the daemon of --socket. A wrong path shows at once; a daemon that starts
// again later is waited for.
func prover(c *cobra.Command) (*tree.Prover, *rpc.Client, error) {
	path, err := c.Flags().GetString("socket")
	if err != nil {
		return nil, nil, err
	}
	probe, err := rpc.Dial(c.Context(), path)
	if err != nil {
		return nil, nil, err
	}
	if err := probe.Close(); err != nil {
		return nil, nil, err
	}
	client, err := rpc.Dialer{Path: path, Wait: true}.Dial(c.Context())
	if err != nil {
		return nil, nil, err
	}
	return tree.NewProver(client), client, nil
}

// network is of an address: a path after "unix:", else TCP.
func network(address string) (kind, at string) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return "unix", path
	}
	return "tcp", address
}

func checkAddress(flag, address string) error {
	kind, at := network(address)
	if _, _, err := net.SplitHostPort(at); kind == "tcp" && err != nil || at == "" {
		return command.Hinted(fmt.Errorf("--%s %s must be HOST:PORT or unix:PATH", flag, address), "as in 127.0.0.1:8080 or unix:/run/app.sock")
	}
	return nil
}

// halfCloser can say that nothing more comes.
type halfCloser interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// carry copies both ways until both are done, or one fails. A program over TCP sees a
// reset then: a session that was cut off must not pass for one that ended.
func carry(a, b halfCloser) {
	var both sync.WaitGroup
	one := func(to, from halfCloser) {
		if _, err := io.Copy(to, from); err != nil {
			for _, c := range []halfCloser{a, b} {
				if program, is := c.(*net.TCPConn); is {
					program.SetLinger(0)
				}
				c.Close()
			}
			return
		}
		if to.CloseWrite() != nil {
			to.Close()
		}
	}
	both.Go(func() { one(a, b) })
	both.Go(func() { one(b, a) })
	both.Wait()
	a.Close()
	b.Close()
}

// notes writes what others cause to stderr: some lines at once, then a line a second, so
// that nobody fills the log by connecting. The other end of a session is told nothing, so
// that the first refusals must not be lost.
type notes struct {
	mu   sync.Mutex
	to   io.Writer
	free time.Time // when a line is paid for that was written ahead of its second
	left int
}

// atOnce is how many lines may be written ahead of their seconds.
const atOnce = 20

func (n *notes) say(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	if n.free.Before(now) {
		n.free = now
	}
	if n.free.Sub(now) > (atOnce-1)*time.Second {
		n.left++
		return
	}
	more := ""
	if n.left > 0 {
		more = fmt.Sprintf(" (and %d more)", n.left)
	}
	fmt.Fprintf(n.to, "cimactl: "+format+"%s\n", append(args, more)...)
	n.free, n.left = n.free.Add(time.Second), 0
}

// each carries the connections of a listener, some at a time, until it is closed.
func each(l net.Listener, do func(nc net.Conn)) error {
	places := make(chan struct{}, maxSessions)
	for {
		nc, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		} else if err != nil {
			return err
		}
		select {
		case places <- struct{}{}:
		default:
			nc.Close()
			continue
		}
		go func() {
			defer func() { <-places }()
			do(nc)
		}()
	}
}
