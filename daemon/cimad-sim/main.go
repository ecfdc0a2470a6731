// Cimad-sim is cimad on a simulated TD, for trying and testing. Its quotes chain to a
// root of its own, and verifiers refuse them unless they are configured to trust that root.
package main

import (
	"context"
	"flag"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/cima-project/cima/daemon"
	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/sim"
)

var version = "unknown" // set by the linker

func main() {
	if len(os.Args) > 1 && os.Args[1] == "td" {
		os.Exit(runTD(os.Args[2:], os.Stdout, os.Stderr))
	}
	var socket, bootLog, platform string
	os.Exit(daemon.Main(daemon.Program{
		Name:    "cimad-sim",
		Version: version,
		Usage:   "[--td SOCKET | --platform NAME | --boot-log FILE] [--runtime-dir DIR]\n       cimad-sim td --dir DIR [--platform NAME | --boot-log FILE]",
		About: `cimad on a simulated TD: NOT HARDWARE. The TD is a process of its own, as real
registers outlive the daemon: "cimad-sim td" is one; without --td the daemon
starts one under its runtime directory. To try it:

  cimad-sim --runtime-dir /tmp/x &
  CIMA_SOCKET=/tmp/x/cima/cima.sock cimactl whoami`,
		Flags: func(set *flag.FlagSet) {
			set.StringVar(&socket, "td", "", "`SOCKET` of a simulated TD that runs")
			set.StringVar(&platform, "platform", "", "`NAME` of what is simulated by a machine started here: "+platforms)
			set.StringVar(&bootLog, "boot-log", "", "`FILE` with the CCEL that a TD started here boots by")
		},
		Open: func(ctx context.Context, pcr int, runtimeDir string, log *slog.Logger) (hw.TEE, error) {
			if socket == "" {
				var err error
				if socket, err = startTD(ctx, filepath.Join(runtimeDir, "cima-td"), platform, bootLog, log); err != nil {
					return nil, err
				}
			}
			td, err := sim.Dial(socket)
			if err != nil {
				return nil, err
			}
			td.LogIn(pcr)
			return td, nil
		},
	}, os.Args[1:], os.Stdout, os.Stderr))
}
