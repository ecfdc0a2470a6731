package main

import (
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/cimactl/command"
)

func whoamiCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "whoami",
		Short:   "Say who the daemon sees, and how sure it is",
		Example: "  docker run --rm -v /run/cima:/run/cima:ro IMAGE cimactl whoami",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return ask(c, rpc.MethodWhoAmI, asJSON, printIdentity)
		},
	}
	waitFlag(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func measurementsCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "measurements",
		Short: "Print the measurement registers",
		Long: `Print the TD's measurement registers (mrtd, rtmr0 to rtmr3), the public one, and
for a container its own register and its launch digest.`,
		Example: "  cimactl measurements\n  cimactl measurements --json | jq -r .rtmr3",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return ask(c, rpc.MethodGetMeasurements, asJSON, printMeasurements)
		},
	}
	waitFlag(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func callCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "call METHOD [JSON]",
		Short: "Call any method of the daemon",
		Long:  "Call any method of the daemon and print its result as JSON. cima-api(7) lists\nthe methods.",
		Example: `  cimactl call WhoAmI
  cimactl call GetCCMeasurement '{"index":3}'`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			params := jsontext.Value("{}")
			if len(args) == 2 {
				params = jsontext.Value(args[1])
				if !params.IsValid() {
					return command.Hinted(fmt.Errorf("the parameters must be JSON"), `put them in single quotes: '{"index":3}'`)
				}
			}
			d, err := client(c)
			if err != nil {
				return err
			}
			defer d.Close()
			err = printRaw(c, d, args[0], params)
			var wire *rpc.Error
			if errors.As(err, &wire) && wire.Code == rpc.CodeMethodNotFound {
				if meant := command.Method(args[0]); meant != "" && meant != args[0] {
					return command.Hinted(err, "did you mean `cimactl call %s`? cima-api(7) lists the methods", meant)
				}
			}
			return err
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return append(rpc.CallerMethods(), rpc.MethodDiscover, rpc.MethodGetStatus, rpc.MethodListContainers), cobra.ShellCompDirectiveNoFileComp
		},
	}
	waitFlag(c)
	return c
}

// printRaw calls a method and prints its result byte by byte as it came.
func printRaw(c *cobra.Command, d *daemon, method string, params any) error {
	result, err := retry(c, d, func() (result jsontext.Value, err error) {
		err = d.Call(c.Context(), method, params, &result)
		return result, err
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "%s\n", result)
	return err
}

// ask calls a method without parameters and prints its result, for people or for
// programs.
func ask[R any](c *cobra.Command, method string, asJSON bool, print func(*tabwriter.Writer, R)) error {
	d, err := client(c)
	if err != nil {
		return err
	}
	defer d.Close()
	if asJSON {
		return printRaw(c, d, method, rpc.NoParams{})
	}
	result, err := retry(c, d, func() (result R, err error) {
		err = d.Call(c.Context(), method, rpc.NoParams{}, &result)
		return result, err
	})
	if err != nil {
		return err
	}
	return command.Table(c.OutOrStdout(), func(w *tabwriter.Writer) { print(w, result) })
}

func printIdentity(w *tabwriter.Writer, who rpc.Identity) {
	if c := who.Container; c != nil {
		command.Row(w, "container", c.ID)
		command.Row(w, "runtime", c.Runtime)
		command.Row(w, "image", c.Image)
		command.Row(w, "image digest", c.ImageDigest)
		if c.LaunchDigest != nil {
			command.Row(w, "launch digest", c.LaunchDigest)
		}
		command.Row(w, "cgroup", c.Cgroup)
		if c.Pod != (rpc.PodClaims{}) {
			command.Row(w, "pod", c.Pod)
		}
		command.Row(w, "measured", c.Assurance.Start)
		command.Row(w, "known from", c.Assurance.Metadata)
		if c.Assurance.CgroupOwner != 0 {
			command.Row(w, "cgroup owner", c.Assurance.CgroupOwner)
		}
	} else {
		command.Row(w, "host process", who.PID)
		command.Row(w, "unit", who.Host.Unit)
	}
	command.Row(w, "pid", who.PID)
	command.Row(w, "uid", who.UID)
	command.Row(w, "gid", who.GID)
}

func printMeasurements(w *tabwriter.Writer, m rpc.Measurements) {
	command.Row(w, "mrtd", m.MRTD)
	command.Row(w, "rtmr0", m.RTMR0)
	command.Row(w, "rtmr1", m.RTMR1)
	command.Row(w, "rtmr2", m.RTMR2)
	command.Row(w, "rtmr3", m.RTMR3)
	command.Row(w, "public", m.Public)
	if m.Container != nil {
		command.Row(w, "container", m.Container)
	}
	if m.LaunchDigest != nil {
		command.Row(w, "launch digest", m.LaunchDigest)
	}
}
