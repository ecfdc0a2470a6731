package tls

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/rpc/cimactl/command"
)

// patience is how long PROGRAM has to end after SIGTERM.
const patience = 10 * time.Second

// program is the service that serve started.
type program struct {
	command *exec.Cmd
	address string // where it listens, if serve made its socket
	socket  *net.UnixListener
	ended   chan struct{}
	err     error // read after ended
}

// start starts PROGRAM. Its socket is in the abstract name space: it is in no folder, and
// nobody else can listen there as long as this process has it open.
func start(ctx context.Context, c *cobra.Command, words []string, inherits bool) (*program, error) {
	p := &program{ended: make(chan struct{})}
	p.command = exec.Command(words[0], words[1:]...)
	if inherits {
		name := "@cima-tls-" + rand.Text()
		socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
		if err != nil {
			return nil, fmt.Errorf("the socket of %s: %w", words[0], err)
		}
		file, err := socket.File()
		if err != nil {
			return nil, errors.Join(err, socket.Close())
		}
		defer file.Close()
		self, err := os.Executable()
		if err != nil {
			return nil, errors.Join(err, socket.Close())
		}
		p.address, p.socket = "unix:"+name, socket
		p.command = exec.Command(self, append([]string{"tls", "inherit", "--"}, words...)...)
		p.command.Args[0] = os.Args[0]
		p.command.ExtraFiles = []*os.File{file}
	}
	p.command.Stdin, p.command.Stdout, p.command.Stderr = os.Stdin, c.OutOrStdout(), c.ErrOrStderr()
	if err := p.command.Start(); err != nil {
		if p.socket != nil {
			p.socket.Close()
		}
		return nil, fmt.Errorf("start %s: %w", words[0], err)
	}
	go func() { p.err = p.command.Wait(); close(p.ended) }()
	context.AfterFunc(ctx, func() { p.command.Process.Signal(syscall.SIGTERM) })
	return p, nil
}

// wait returns how PROGRAM ended, as an exit code.
func (p *program) wait() error {
	<-p.ended
	var exit *exec.ExitError
	switch {
	case p.err == nil:
		return command.Exit(0)
	case !errors.As(p.err, &exit):
		return p.err
	case exit.ExitCode() < 0:
		return command.Exit(128 + int(exit.Sys().(syscall.WaitStatus).Signal()))
	}
	return command.Exit(exit.ExitCode())
}

// end waits for PROGRAM, and ends it if it doesn't end by itself.
func (p *program) end() {
	p.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.command.Process.Kill()
		<-p.ended
	}
	if p.socket != nil {
		p.socket.Close()
	}
}

// inheritCommand becomes PROGRAM, whose LISTEN_PID only the process itself can know.
func inheritCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "inherit -- PROGRAM ARG…",
		Short:   "What serve starts PROGRAM by",
		Example: "  cimactl tls serve -- PROGRAM",
		Hidden:  true,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			path, err := exec.LookPath(args[0])
			if err != nil {
				return fmt.Errorf("start %s: %w", args[0], err)
			}
			for name, value := range map[string]string{"LISTEN_FDS": "1", "LISTEN_PID": strconv.Itoa(os.Getpid()), "LISTEN_FDNAMES": "tls"} {
				if err := os.Setenv(name, value); err != nil {
					return err
				}
			}
			return fmt.Errorf("start %s: %w", path, syscall.Exec(path, args, os.Environ()))
		},
	}
}
