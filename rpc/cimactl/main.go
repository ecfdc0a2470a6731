// Cimactl is CIMA's command line: it asks the daemon, and it appraises evidence, which
// needs no daemon. See cimactl(1).
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cima-project/cima/rpc"
)

var version = "unknown" // set by the linker

// Exit codes (cimactl(1), EXIT STATUS). Those of verify are in verify.Verdict.
const (
	exitError   = 1 // the tool, the daemon or the arguments
	exitNetwork = 3
)

// failure is an error with an exit code and a hint.
type failure struct {
	err  error
	code int
	hint string
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// hinted adds a hint to an error.
func hinted(err error, hint string, args ...any) error {
	return &failure{err: err, code: exitError, hint: fmt.Sprintf(hint, args...)}
}

// exitCode ends the program with a code and no message: stdout has all of it.
type exitCode int

func (q exitCode) Error() string { return fmt.Sprintf("exit %d", int(q)) }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := rootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var q exitCode
	if err == nil {
		return 0
	} else if errors.As(err, &q) {
		return int(q)
	}
	code, hint := exitError, ""
	var f *failure
	var wire *rpc.Error
	var away *rpc.UnreachableError
	switch {
	case errors.As(err, &f):
		code, hint = f.code, f.hint
	case errors.As(err, &wire):
		hint = wireHint(wire)
	case errors.As(err, &away):
		hint = away.Hint
	}
	fmt.Fprintf(stderr, "cimactl: %v\n", err)
	if hint != "" {
		fmt.Fprintf(stderr, "hint: %s\n", hint)
	}
	return code
}

// wireHint says what a person can do about an error of the daemon.
func wireHint(e *rpc.Error) string {
	switch e.Code {
	case rpc.CodeMethodNotFound:
		return "cima-api(7) lists the methods, and which of them are on the admin socket alone"
	case rpc.CodeUnattributed:
		return "containers that root started are known, those of a user's own engine with rootless.conf (cimad(8)); `journalctl -u cimad` says what was seen"
	case rpc.CodeRateLimited, rpc.CodeNotReady:
		return fmt.Sprintf("ask again in %v", e.RetryAfter())
	case rpc.CodeTEEUnavailable:
		return "`cimactl doctor` on the host says what is missing"
	case rpc.CodeLogInconsistent:
		return "something else extended RTMR3; only a reboot makes log and register agree again"
	}
	return ""
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "cimactl",
		Short: "Evidence of what runs in a container on a confidential VM",
		Long: `Evidence of what runs in a container on a confidential VM.

In a container, or on the host, it asks cimad about the caller itself. On any
other machine it appraises the evidence, offline.`,
		Example: `  cimactl evidence --nonce "$NONCE" >evidence.json
  cimactl verify evidence.json --nonce "$NONCE" --policy policy.toml`,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },

		PersistentPreRunE: func(c *cobra.Command, _ []string) error { return refuseEmpty(c) },
	}
	root.SetVersionTemplate("cimactl {{.Version}}\n")
	root.CompletionOptions.HiddenDefaultCmd = true
	root.PersistentFlags().String("socket", "", "socket `PATH` (default $CIMA_SOCKET, "+rpc.DefaultSocket+")")
	root.AddCommand(evidenceCommand(), reportCommand(), whoamiCommand(), measurementsCommand(), eventlogCommand(), callCommand(),
		containersCommand(), statusCommand(),
		nonceCommand(), verifyCommand(), replayCommand(), policyCommand(), convertCommand(), predictCommand())
	root.AddCommand(hostCommands()...)
	root.SetFlagErrorFunc(usage)
	explainArguments(root)
	return root
}

// refuseEmpty refuses flags that are given and empty: without the flag less is checked,
// and that is not what the user wants.
func refuseEmpty(c *cobra.Command) (err error) {
	c.Flags().Visit(func(f *pflag.Flag) {
		if f.Value.Type() == "string" && f.Value.String() == "" {
			err = hinted(fmt.Errorf("--%s is given and must not be empty", f.Name), "is a variable of the shell not set?")
		}
	})
	return err
}

// usage is an error in flags or arguments; its hint is the command's help.
func usage(c *cobra.Command, err error) error {
	return hinted(err, "`%s --help` shows what it takes, and an example", c.CommandPath())
}

// explainArguments lets a command and its subcommands say in plain words what is wrong
// with their arguments.
func explainArguments(c *cobra.Command) {
	fits := c.Args
	c.Args = func(c *cobra.Command, args []string) error {
		if fits(c, args) == nil {
			return nil
		}
		if c.HasSubCommands() {
			return usage(c, fmt.Errorf("unknown command %q", args[0]))
		}
		given := "none given"
		if len(args) > 0 {
			given = fmt.Sprintf("%d given, %q", len(args), args)
		}
		return usage(c, fmt.Errorf("wrong number of arguments, %s; it must be: %s", given, c.UseLine()))
	}
	for _, below := range c.Commands() {
		explainArguments(below)
	}
}

// client connects to the daemon of --socket or $CIMA_SOCKET.
func client(c *cobra.Command) (*rpc.Client, error) {
	path, err := c.Flags().GetString("socket")
	if err != nil {
		return nil, err
	}
	return rpc.Dial(c.Context(), path)
}
