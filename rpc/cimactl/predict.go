//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/daemon/launch"
)

// maxConfig bounds an OCI config.json.
const maxConfig = 4 << 20

func predictCommand() *cobra.Command {
	var bundle, config, image, environment, entrypoint string
	var labels []string
	var asJSON bool
	c := &cobra.Command{
		Use:   "predict --bundle DIR | --config FILE",
		Short: "Compute the launch digest of an OCI bundle without running it",
		Long: `Compute the launch digest that a container of this OCI bundle will have. The
image is given as the image event holds it: JSON with reference, digest and
layers ("cimactl evidence" of a run shows one). The digest of the entrypoint's
file is in the launch, too: of a bundle it is read from the root file system,
beside a config.json it is given as --entrypoint.`,
		Example: `  cimactl predict --bundle /run/containerd/…/ID --image image.json`,
		Args:    cobra.NoArgs,
	}
	c.Flags().StringVar(&bundle, "bundle", "", "`DIR` of an OCI bundle")
	c.Flags().StringVar(&config, "config", "", "`FILE`, an OCI config.json; - reads stdin")
	c.Flags().StringVar(&image, "image", "", "`FILE` with the image's identity as JSON")
	c.Flags().StringVar(&entrypoint, "entrypoint", "", "the entrypoint `PATH=SHA384`, as the launch event has it")
	c.Flags().StringVar(&environment, "environment", "names", "how the environment is measured: `names`, digest or none")
	c.Flags().StringSliceVar(&labels, "label", nil, "`NAME` of a label that the daemon counts")
	c.Flags().BoolVar(&asJSON, "json", false, "print the launch too, as JSON")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if (bundle == "") == (config == "") {
			return errors.New("give --bundle or --config, and not both")
		}
		l, err := predicted(c.Context(), bundle, config, launch.Rules{Environment: environment, Labels: labels})
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
		fmt.Fprintln(c.OutOrStdout(), hex.EncodeToString(digest[:]))
		return nil
	}
	return c
}

// predicted is the launch of a bundle, or of a config.json alone.
func predicted(ctx context.Context, bundle, config string, rules launch.Rules) (launch.Launch, error) {
	if bundle != "" {
		return launch.FromBundle(ctx, bundle, rules)
	}
	text, err := readBounded(config, maxConfig)
	if err != nil {
		return launch.Launch{}, err
	}
	return launch.FromConfig(bytes.NewReader(text), rules)
}

func parseEntrypoint(s string) (*launch.Entrypoint, error) {
	at := bytes.LastIndexByte([]byte(s), '=')
	if at < 1 {
		return nil, fmt.Errorf("--entrypoint %q: it is PATH=SHA384", s)
	}
	return &launch.Entrypoint{Path: launch.Text(s[:at]), SHA384: s[at+1:]}, nil
}

func readImage(path string) (i launch.Image, err error) {
	text, err := readBounded(path, maxConfig)
	if err != nil {
		return i, err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&i); err != nil {
		return i, hinted(fmt.Errorf("%s: %w", path, err), `an image is {"reference":…,"digest":"sha256:…","layers":[…]}`)
	}
	return i, nil
}
