package main

import "github.com/spf13/cobra"

// hostCommands look at the hardware of this machine.
func hostCommands() []*cobra.Command {
	return []*cobra.Command{doctorCommand()}
}
