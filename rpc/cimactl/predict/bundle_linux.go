package predict

import (
	"context"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/records"
)

// predictedBundle is the launch of a bundle, with the digests of its files.
func predictedBundle(ctx context.Context, dir string, rules launch.Rules, known launch.Known) (launch.Launch, error) {
	return records.FromBundle(ctx, dir, rules, known)
}
