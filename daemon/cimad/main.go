// Cimad answers containers' questions about themselves, with evidence rooted
// in Intel TDX. See cimad(8).
package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/cima-project/cima/daemon"
	"github.com/cima-project/cima/hw"
)

var version = "unknown" // set by the linker

func main() {
	os.Exit(daemon.Main(daemon.Program{
		Name:    "cimad",
		Version: version,
		Usage:   "[--config FILE] [--runtime-dir DIR]",
		About: `Answers docker and podman containers on a Unix socket with evidence about
themselves, rooted in this machine's Intel TDX. Its units start it, and make its
sockets:

  systemctl enable --now cimad`,
		Open: open,
	}, os.Args[1:], os.Stdout, os.Stderr))
}

func open(ctx context.Context, pcr int, _ string, _ *slog.Logger) (hw.TEE, error) {
	return hw.Detect(ctx, hw.Options{PCR: pcr})
}
