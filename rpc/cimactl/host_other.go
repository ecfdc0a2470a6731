//go:build !linux

package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/daemon/launch"
)

// hostCommands are of Linux alone: no other system runs cimad.
func hostCommands() []*cobra.Command { return nil }

// predictedBundle needs the file system that the container's runtime sees.
func predictedBundle(context.Context, string, launch.Rules, launch.Known) (launch.Launch, error) {
	return launch.Launch{}, hinted(errors.New("--bundle needs Linux"), "give the bundle's config.json as --config, and the entrypoint's digest as --entrypoint")
}
