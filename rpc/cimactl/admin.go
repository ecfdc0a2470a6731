package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/cimactl/command"
)

// adminClient connects to the admin socket, or to that of --socket.
func adminClient(c *cobra.Command) (*daemon, error) {
	path, err := c.Flags().GetString("socket")
	if err != nil {
		return nil, err
	}
	if path == "" {
		path = rpc.DefaultAdminSocket
	}
	d, err := dial(c, path)
	var away *rpc.UnreachableError
	if errors.As(err, &away) {
		return nil, command.Hinted(err, "%s", adminHint(away))
	}
	return d, err
}

// adminHint says what may be wrong with the admin socket. Other than for the caller's
// socket, the advice is never to mount it into a container.
func adminHint(away *rpc.UnreachableError) string {
	switch {
	case errors.Is(away, fs.ErrPermission):
		return "this is for root on the host: try it with sudo"
	case errors.Is(away, fs.ErrNotExist):
		return "this is for root on the host, and no container should have the socket; on the host: systemctl status cimad-admin.socket, and cimactl doctor says what is missing"
	}
	return away.Hint
}

// adminLong is a part of the help of the administrator's commands.
const adminLong = `
It asks the admin socket, ` + rpc.DefaultAdminSocket + `, unless --socket names
another; CIMA_SOCKET does not count here. For root, on the host.`

func containersCommand() *cobra.Command {
	var asJSON bool
	var watch command.Watching
	c := &cobra.Command{
		Use:   "containers",
		Short: "List the containers that the daemon knows (root, on the host)",
		Long: `List the containers that the daemon knows: how each was measured ("gated":
before its first instruction), or why it gets no evidence.
` + adminLong,
		Example: "  sudo cimactl containers",
		Args:    cobra.NoArgs,
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	watch.Flag(c)
	waitFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := watch.Check(c, asJSON); err != nil {
			return err
		}
		d, err := adminClient(c)
		if err != nil {
			return err
		}
		defer d.Close()
		if asJSON {
			return printRaw(c, d, rpc.MethodListContainers, rpc.NoParams{})
		}
		return watch.Show(c.Context(), c.OutOrStdout(), func(out io.Writer) error {
			list, err := d.ListContainers(c.Context())
			if err != nil {
				return err
			}
			rows := command.Fit(containerRows(list.Containers, command.Columns(c.OutOrStdout())), command.Columns(c.OutOrStdout()))
			return command.Table(out, func(w *tabwriter.Writer) {
				for _, row := range rows {
					fmt.Fprintln(w, strings.Join(row, "\t"))
				}
			})
		})
	}
	return c
}

// containerRows are a table with its head. On a terminal, ids are as docker ps shows them.
func containerRows(list []rpc.ContainerStatus, wide int) [][]string {
	rows := [][]string{{"CONTAINER", "RUNTIME", "MEASURED", "EVENTS", "POWER", "IMAGE"}}
	for _, s := range list {
		measured := s.Assurance.Start
		if s.NotReady != "" {
			measured = s.NotReady
		}
		rows = append(rows, []string{command.ShortID(s.ID, wide), s.Runtime, measured, fmt.Sprint(s.Events), powerWords(s.Power), s.Image})
	}
	return rows
}

// powerWords are a container's classes of power: "none", or "?" where they are not known.
func powerWords(classes []string) string {
	switch {
	case classes == nil:
		return "?"
	case len(classes) == 0:
		return "none"
	}
	return strings.Join(classes, ",")
}

func statusCommand() *cobra.Command {
	var asJSON, metrics bool
	var watch command.Watching
	c := &cobra.Command{
		Use:   "status",
		Short: "Say how the daemon does (root, on the host)",
		Long: `Say how the daemon does: whether evidence can be had, and if not, why.
` + adminLong,
		Example: "  sudo cimactl status\n  sudo cimactl status --metrics",
		Args:    cobra.NoArgs,
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().BoolVar(&metrics, "metrics", false, "print counters and histograms as Prometheus reads them")
	watch.Flag(c)
	waitFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := watch.Check(c, asJSON || metrics); err != nil {
			return err
		}
		d, err := adminClient(c)
		if err != nil {
			return err
		}
		defer d.Close()
		if asJSON {
			return printRaw(c, d, rpc.MethodGetStatus, rpc.StatusParams{Metrics: metrics})
		}
		if metrics {
			text, err := d.Metrics(c.Context())
			if err != nil {
				return err
			}
			_, err = io.WriteString(c.OutOrStdout(), text)
			return err
		}
		return watch.Show(c.Context(), c.OutOrStdout(), func(out io.Writer) error {
			s, err := d.GetStatus(c.Context())
			if err != nil {
				return err
			}
			return command.Table(out, func(w *tabwriter.Writer) { printStatus(w, s) })
		})
	}
	return c
}

func printStatus(w *tabwriter.Writer, s rpc.Status) {
	command.Row(w, "version", s.Version)
	command.Row(w, "boot id", s.BootID)
	command.Row(w, "up", time.Duration(s.Uptime)*time.Second)
	command.Row(w, "evidence", map[bool]string{true: "can be had", false: "refused"}[s.Ready])
	command.Row(w, "problem", s.Problem)
	printCounts(w, "hardware", s.Hardware)
	command.Row(w, "log", fmt.Sprintf("%d events, anchored in %s", s.Log.Count, s.Log.Anchor))
	command.Row(w, "containers", s.Container)
	for i, class := range s.Power { // evidence of all says so, and a policy must allow it
		command.Row(w, map[bool]string{true: "power"}[i == 0], class+": in everybody's evidence until the next boot")
	}
	command.Row(w, "connections", fmt.Sprintf("%d now, %d in all, %d refused, %d dropped", s.Server.Connections, s.Server.Accepted, s.Server.Refused, s.Server.Dropped))
	printCounts(w, "calls", s.Calls)
	printCounts(w, "errors", s.Errors)
}

func printCounts[V any](w io.Writer, what string, counts map[string]V) {
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		command.Row(w, what, fmt.Sprintf("%s: %v", name, counts[name]))
		what = ""
	}
}
