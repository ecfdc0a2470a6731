package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/records"
)

// hostCommands look at the hardware of this machine.
func hostCommands() []*cobra.Command {
	return []*cobra.Command{doctorCommand()}
}

// predictedBundle is the launch of a bundle, with the digests of its files.
func predictedBundle(ctx context.Context, dir string, rules launch.Rules, known launch.Known) (launch.Launch, error) {
	return records.FromBundle(ctx, dir, rules, known)
}
