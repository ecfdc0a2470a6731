package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/cima-project/cima/logs/canonical"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/rpc"
)

func predictCommand() *cobra.Command {
	var bundle, config, image, imageConfig, entrypoint string
	var rules launch.Rules
	var asJSON bool
	c := &cobra.Command{
		Use:   "predict --bundle DIR | --config FILE",
		Short: "Compute the launch digest of an OCI bundle without running it",
		Long: `Compute the launch digest that a container of this OCI bundle will have. --image
is the image's identity as in the image event: JSON with reference, digest and
layers ("cimactl verify --json" shows that of a run). Without it the digest is
that of a container whose image no engine reports. The launch also holds the
digest of the entrypoint's file: with --bundle it is read from the root file
system, with --config give it as --entrypoint. --bundle works on Linux only.`,
		Example: `  cimactl predict --bundle /run/containerd/…/ID --image image.json`,
		Args:    cobra.NoArgs,
	}
	c.Flags().StringVar(&bundle, "bundle", "", "`DIR` of an OCI bundle (on Linux)")
	c.Flags().StringVar(&config, "config", "", "`FILE`, an OCI config.json; - reads stdin")
	c.Flags().StringVar(&image, "image", "", "`FILE` with the image's identity as JSON")
	c.Flags().StringVar(&entrypoint, "entrypoint", "", "`PATH=SHA384` of the entrypoint's file")
	c.Flags().StringVar(&imageConfig, "image-config", "", "`FILE`, the image's configuration")
	c.Flags().StringSliceVar(&rules.Public, "public", nil, "`NAME` of a variable whose value is shown")
	c.Flags().StringSliceVar(&rules.Labels, "label", nil, "`NAME` of a label that is measured")
	c.Flags().BoolVar(&asJSON, "json", false, "print the launch too, as JSON")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if (bundle == "") == (config == "") {
			return usage(c, errors.New("give --bundle or --config, and not both"))
		}
		var known launch.Known
		if imageConfig != "" {
			var err error
			if known.Image, err = readImageConfig(imageConfig); err != nil {
				return err
			}
		}
		l, err := predicted(c.Context(), bundle, config, rules, known)
		if err != nil {
			return err
		}
		if entrypoint != "" {
			if l.Entrypoint, err = parseEntrypoint(entrypoint); err != nil {
				return err
			}
		}
		i := launch.Image{Absent: "no engine to ask"}
		if image != "" {
			if i, err = readImage(image); err != nil {
				return err
			}
		}
		digest, err := launch.Digest(l, i)
		if err != nil {
			return err
		}
		if asJSON {
			return printJSON(c, map[string]any{"launch_digest": hex.EncodeToString(digest[:]), "launch": l, "image": i})
		}
		_, err = fmt.Fprintln(c.OutOrStdout(), hex.EncodeToString(digest[:]))
		return err
	}
	return c
}

// predicted returns the launch of a bundle, or of a config.json.
func predicted(ctx context.Context, bundle, config string, rules launch.Rules, known launch.Known) (launch.Launch, error) {
	if bundle != "" {
		return predictedBundle(ctx, bundle, rules, known)
	}
	text, err := readBounded(config, launch.MaxConfig)
	if err != nil {
		return launch.Launch{}, err
	}
	l, err := launch.FromConfig(bytes.NewReader(text), rules, known)
	if err != nil {
		return l, fmt.Errorf("%s: %w", config, err)
	}
	return l, nil
}

func readImageConfig(path string) (*launch.ImageConfig, error) {
	text, err := readBounded(path, launch.MaxConfig)
	if err != nil {
		return nil, err
	}
	i, err := launch.ParseImageConfig(text)
	if err != nil {
		return nil, hinted(fmt.Errorf("%s: %w", path, err), "an image's configuration is the file that its manifest names as config")
	}
	return i, nil
}

func parseEntrypoint(s string) (*launch.Entrypoint, error) {
	at := strings.LastIndexByte(s, '=')
	var digest rpc.Digest
	if at < 1 || digest.UnmarshalText([]byte(s[at+1:])) != nil {
		return nil, fmt.Errorf("--entrypoint %q must be PATH=SHA384, the digest in 96 lower-case hex digits", s)
	}
	return &launch.Entrypoint{Path: launch.Text(s[:at]), SHA384: s[at+1:]}, nil
}

const imageHint = `an image must be {"reference":…,"digest":"sha256:…","layers":[…]}, as in the image event`

func readImage(path string) (i launch.Image, err error) {
	text, err := readBounded(path, launch.MaxConfig)
	if err != nil {
		return i, err
	}
	if err := canonical.Unmarshal(text, &i); err != nil {
		return i, hinted(fmt.Errorf("%s: %w", path, err), imageHint)
	}
	if i.Reference+i.Digest+i.Manifest+i.Absent == "" && len(i.Layers) == 0 {
		return i, hinted(fmt.Errorf("%s must hold an image", path), imageHint)
	}
	return i, nil
}
