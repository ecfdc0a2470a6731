// Cimactl is CIMA's command line: it asks the daemon, and it appraises evidence, which
// needs no daemon. See cimactl(1).
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/cimactl/appraise"
	"github.com/cima-project/cima/rpc/cimactl/boot"
	"github.com/cima-project/cima/rpc/cimactl/collateral"
	"github.com/cima-project/cima/rpc/cimactl/command"
	"github.com/cima-project/cima/rpc/cimactl/licenses"
	"github.com/cima-project/cima/rpc/cimactl/policy"
	"github.com/cima-project/cima/rpc/cimactl/predict"
	"github.com/cima-project/cima/rpc/cimactl/reference"
	"github.com/cima-project/cima/rpc/cimactl/replay"
	"github.com/cima-project/cima/rpc/cimactl/results"
	"github.com/cima-project/cima/rpc/cimactl/seal"
	"github.com/cima-project/cima/rpc/cimactl/tls"
)

var version = "unknown" // set by the linker

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
	err := command.KnownVerb(root, args)
	if err == nil {
		err = root.ExecuteContext(ctx)
	}
	return command.Report(stderr, err)
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "cimactl",
		Short: "Evidence of what runs in a container on a confidential VM",
		Long:  "Evidence of what runs in a container on a confidential VM, appraised elsewhere.",
		Example: `  cimactl evidence --nonce "$NONCE" >evidence.json
  cimactl verify evidence.json --nonce "$NONCE" --policy policy.toml`,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },

		PersistentPreRunE: func(c *cobra.Command, _ []string) error { return command.RefuseEmpty(c) },
	}
	root.SetVersionTemplate("cimactl {{.Version}}\n")
	root.CompletionOptions.HiddenDefaultCmd = true
	root.PersistentFlags().String("socket", "", "socket `PATH` (default $CIMA_SOCKET, "+rpc.DefaultSocket+")")
	policies := policy.Command()
	policies.AddCommand(reference.Commands()...)
	predicting := predict.Command()
	predicting.AddCommand(boot.Command())
	root.AddCommand(evidenceCommand(), reportCommand(), whoamiCommand(), measurementsCommand(), eventlogCommand(), callCommand(),
		containersCommand(), statusCommand(), versionCommand(),
		nonceCommand(), appraise.Verify(), appraise.View(), results.Command(), replay.Command(), policies, collateral.Command(), convertCommand(), predicting, licenses.Command(), tls.Command())
	root.AddCommand(hostCommands()...)
	root.AddCommand(seal.Commands()...)
	root.SetFlagErrorFunc(command.Usage)
	command.ExplainArguments(root)
	command.Complete(root)
	root.InitDefaultCompletionCmd() // KnownVerb must know it, and help
	root.InitDefaultHelpCmd()
	hide(root, "help") // --help stands in the usage; the list of verbs fits a screen
	return root
}

// hide takes a verb out of the list of verbs.
func hide(root *cobra.Command, name string) {
	for _, c := range root.Commands() {
		if c.Name() == name {
			c.Hidden = true
		}
	}
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Hidden:  true, // as --version
		Short:   "Print the version",
		Example: "  cimactl version",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(c.OutOrStdout(), "cimactl %s\n", c.Root().Version)
			return err
		},
	}
}
