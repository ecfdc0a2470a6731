package main

import "github.com/spf13/cobra"

// hostCommands look at the hardware and the bundles of this machine.
func hostCommands() []*cobra.Command {
	return []*cobra.Command{doctorCommand(), predictCommand()}
}
