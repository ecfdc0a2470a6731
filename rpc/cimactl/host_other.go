//go:build !linux

package main

import "github.com/spf13/cobra"

// hostCommands are of Linux alone: no other system runs cimad.
func hostCommands() []*cobra.Command { return nil }
