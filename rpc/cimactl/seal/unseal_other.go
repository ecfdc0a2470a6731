//go:build !linux

package seal

import "github.com/spf13/cobra"

// Commands are of Linux alone: no other system runs containers of cimad's.
func Commands() []*cobra.Command { return nil }
