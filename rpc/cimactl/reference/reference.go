// Package reference answers: how does one take others' values into a policy from the command line?
//
// Its verbs stand below `cimactl policy` (cimactl(1)). Each prints tables for a policy, with
// the origin of each value: of images, of Google's endorsement of a firmware, of what
// somebody publishes.
package reference

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/hw/verify/computed"
	"github.com/cima-project/cima/rpc/cimactl/command"
	"github.com/cima-project/cima/rpc/cimactl/predict"
)

// Commands are the verbs.
func Commands() []*cobra.Command {
	return []*cobra.Command{imageCommand(), googleCommand(), publishedCommand()}
}

func imageCommand() *cobra.Command {
	var digests []string
	var origin string
	c := &cobra.Command{
		Use:   "add-image NAME [PLACE[:TAG]…]",
		Short: "Print [image.NAME] of an image, for a policy",
		Long: `Print the table [image.NAME] of a policy: the digests of an image's
configuration and manifest, from an OCI image layout, an archive of it, or what
"docker save" wrote; or a digest that somebody vouches for, with its origin.`,
		Example: `  cimactl policy add-image web web.tar >>policy.toml
  cimactl policy add-image web --digest sha256:… --origin "cosign, key K1"`,
		Args: cobra.MinimumNArgs(1),
	}
	c.Flags().StringSliceVar(&digests, "digest", nil, "`DIGEST` of a configuration or a manifest")
	c.Flags().StringVar(&origin, "origin", "", "`TEXT`: who vouches for --digest")
	c.RunE = func(c *cobra.Command, args []string) error {
		if (len(digests) > 0) != (origin != "") || len(digests)+len(args) < 2 {
			return command.Usage(c, errors.New("there must be a place of an image, or --digest with --origin: a digest of nobody says nothing"))
		}
		i := computed.Image{Name: args[0]}
		for _, place := range args[1:] {
			found, err := ofPlace(place)
			if err != nil {
				return err
			}
			i.Digests = append(i.Digests, found...)
		}
		for _, d := range digests {
			i.Digests = append(i.Digests, computed.ImageDigest{Digest: d, Origin: origin})
		}
		text, err := i.Write()
		if err != nil {
			return &command.Failure{Err: err, Code: command.Malformed}
		}
		_, err = c.OutOrStdout().Write(text)
		return err
	}
	return c
}

// ofPlace are the digests of a stored image, whose blobs are held against them.
func ofPlace(place string) (found []computed.ImageDigest, err error) {
	var identity launch.Image
	i, err := predict.ReadImage(place, &identity)
	if err != nil {
		return nil, err
	}
	if i.Config == nil {
		return nil, command.Hinted(fmt.Errorf("%s holds an image's identity alone", place), "give its digest by --digest, and who vouches for it by --origin")
	}
	short := place[strings.LastIndexByte(place, '/')+1:]
	found = append(found, computed.ImageDigest{Digest: i.Config.Digest, Origin: "configuration, computed from " + short})
	if i.Manifest != "" {
		found = append(found, computed.ImageDigest{Digest: i.Manifest, Origin: "manifest, computed from " + short})
	}
	return found, nil
}
