//go:build !linux

package predict

import (
	"context"
	"errors"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/rpc/cimactl/command"
)

// predictedBundle needs the file system that the container's runtime sees.
func predictedBundle(context.Context, string, launch.Rules, launch.Known) (launch.Launch, error) {
	return launch.Launch{}, command.Hinted(errors.New("--bundle needs Linux"), "give the bundle's config.json as --config, and the entrypoint's digest as --entrypoint")
}
