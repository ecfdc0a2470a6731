// Package predict answers: how does one predict a launch digest from the command line?
package predict

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/launch/predict"
	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/cimactl/command"
)

// flags are what predict takes.
type flags struct {
	from                                             map[string]*string // what the container is read from, by flag
	image, config, entrypoint, service, project, lsm string
	nodes                                            []string
	rules                                            launch.Rules
	json                                             bool
}

// Command is `cimactl predict`.
func Command() *cobra.Command {
	f := flags{from: make(map[string]*string)}
	c := &cobra.Command{
		Use:   "predict --run LINE | --compose FILE | --pod FILE | --bundle DIR",
		Short: "Compute a launch digest before anything runs",
		Long: `Compute the launch digest that a container will have, from what starts it and
from its image: without an engine, without root, on any system. It is printed
first, and then what only the engine or its host knows; exits with 6 then.`,
		Example: `  cimactl predict --run 'docker run -v data:/data web' --image web.tar
  cimactl predict --compose compose.yaml --service web --image-config web.json`,
		Args:                  cobra.NoArgs,
		DisableFlagsInUseLine: true,
	}
	for _, source := range [][2]string{
		{"run", "`LINE` of docker or podman, for one container"},
		{"compose", "`FILE` of compose; - reads stdin"},
		{"pod", "`FILE` with a pod, or with a workload of pods"},
		{"bundle", "`DIR` of an OCI bundle (on Linux)"},
		{"config", "`FILE`, an OCI config.json"},
	} {
		f.from[source[0]] = c.Flags().String(source[0], "", source[1])
	}
	c.Flags().StringVar(&f.image, "image", "", "`PLACE[:TAG]` of an OCI layout or an archive")
	c.Flags().StringVar(&f.config, "image-config", "", "`FILE`, the image's configuration")
	c.Flags().StringVar(&f.service, "service", "", "`NAME` of the service or container, of several")
	c.Flags().StringVar(&f.project, "project", "", "`NAME` of compose's project, if not in the file")
	c.Flags().StringVar(&f.lsm, "lsm", "", "`NAME` of the host's: apparmor, selinux or none")
	_ = c.RegisterFlagCompletionFunc("lsm", cobra.FixedCompletions([]string{"apparmor", "selinux", "none"}, cobra.ShellCompDirectiveNoFileComp))
	c.Flags().StringSliceVar(&f.nodes, "node", nil, "`NODE`, PATH=TYPE:MAJOR:MINOR:MODE:UID:GID")
	c.Flags().StringVar(&f.entrypoint, "entrypoint", "", "`PATH=SHA384` of its file, with --config")
	c.Flags().StringSliceVar(&f.rules.Public, "public", nil, "`NAME` of a variable whose value is shown")
	c.Flags().StringSliceVar(&f.rules.Labels, "label", nil, "`NAME` of a label that is measured")
	c.Flags().BoolVar(&f.json, "json", false, "print the launch too, as JSON")
	for flag, endings := range map[string][]string{
		"compose": {"yaml", "yml"}, "pod": {"yaml", "yml", "json"}, "config": {"json"}, "image-config": {"json"},
	} {
		_ = c.MarkFlagFilename(flag, endings...)
	}
	c.RunE = func(c *cobra.Command, _ []string) error {
		var given []string
		for name := range f.from {
			if c.Flags().Changed(name) {
				given = append(given, name)
			}
		}
		if len(given) != 1 {
			return command.Usage(c, errors.New("give one of --run, --compose, --pod, --bundle and --config"))
		}
		if given[0] == "bundle" || given[0] == "config" {
			return f.ofBundle(c)
		}
		return f.ofWish(c, given[0])
	}
	return c
}

// predicted is what predict --json prints: launch and image as in their events.
type predicted struct {
	Digest  string            `json:"launch_digest,omitempty"`
	Launch  launch.Launch     `json:"launch"`
	Image   launch.Image      `json:"image"`
	Unknown []predict.Unknown `json:"unknown"`
}

// print shows a prediction: the digest first, then what is unknown.
func (p predicted) print(c *cobra.Command, asJSON bool) error {
	var known error
	if len(p.Unknown) > 0 {
		known = command.Exit(command.Unknown)
	}
	if asJSON {
		return errors.Join(command.PrintJSON(c, p), known)
	}
	out := &strings.Builder{}
	if p.Digest != "" {
		fmt.Fprintln(out, p.Digest)
	} else {
		fmt.Fprintln(out, "The launch digest can't be known.")
	}
	for _, u := range p.Unknown {
		fmt.Fprintf(out, "not known: %s: %s\n", u.Fact, u.Why)
		if u.Assumed != "" {
			fmt.Fprintf(out, "  assumed: %s\n", u.Assumed)
		}
	}
	if _, err := fmt.Fprint(c.OutOrStdout(), out); err != nil {
		return err
	}
	return known
}

// ofBundle predicts from the configuration that an engine wrote.
func (f *flags) ofBundle(c *cobra.Command) error {
	var known launch.Known
	identity := launch.Image{Absent: "no engine to ask"}
	image, err := f.images(&identity)
	if err != nil {
		return err
	}
	known.Image = image.Config
	var l launch.Launch
	if dir := *f.from["bundle"]; dir != "" {
		l, err = predictedBundle(c.Context(), dir, f.rules, known)
	} else {
		l, err = predictedConfig(*f.from["config"], f.rules, known)
	}
	if err != nil {
		return err
	}
	if l.ImageConfig != "" {
		identity = launch.Image{Digest: l.ImageConfig}
	}
	if f.entrypoint != "" {
		if l.Entrypoint, err = parseEntrypoint(f.entrypoint); err != nil {
			return err
		}
	}
	digest, err := launch.Digest(l, identity)
	if err != nil {
		return err
	}
	return predicted{hex.EncodeToString(digest[:]), l, identity, []predict.Unknown{}}.print(c, f.json)
}

func predictedConfig(file string, rules launch.Rules, known launch.Known) (launch.Launch, error) {
	text, err := command.ReadBounded(file, launch.MaxConfig)
	if err != nil {
		return launch.Launch{}, err
	}
	l, err := launch.FromConfig(bytes.NewReader(text), rules, known)
	if err != nil {
		return l, fmt.Errorf("%s: %w", file, err)
	}
	return l, nil
}

func parseEntrypoint(s string) (*launch.Entrypoint, error) {
	at := strings.LastIndexByte(s, '=')
	var digest rpc.Digest
	if at < 1 || digest.UnmarshalText([]byte(s[at+1:])) != nil {
		return nil, fmt.Errorf("--entrypoint %q must be PATH=SHA384, the digest in 96 lower-case hex digits", s)
	}
	return &launch.Entrypoint{Path: launch.Text(s[:at]), SHA384: s[at+1:]}, nil
}

// ofWish predicts from what a user gives an engine.
func (f *flags) ofWish(c *cobra.Command, source string) error {
	container, err := f.container(source)
	if err != nil {
		return err
	}
	image, err := f.images(new(launch.Image))
	if err != nil {
		return err
	}
	if image.Config == nil {
		return command.Usage(c, fmt.Errorf("the launch of %s needs its image: give --image or --image-config", container.Image))
	}
	host, err := f.host()
	if err != nil {
		return err
	}
	p, err := predict.Predict(container, image, host, f.rules)
	if err != nil {
		return malformed(err)
	}
	unknown := append([]predict.Unknown{}, p.Unknown...)
	return predicted{p.Digest, p.Launch, p.Image, unknown}.print(c, f.json)
}

// malformed is an error in what is predicted, with its hint.
func malformed(err error) error {
	if err == nil {
		return nil
	}
	out := &command.Failure{Err: err, Code: command.Malformed}
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		out.Hint = h.Hint()
	}
	return out
}

// host is what the flags say of the machine.
func (f *flags) host() (predict.Host, error) {
	h := predict.Host{LSM: f.lsm, Devices: make(map[string]predict.Node)}
	switch f.lsm {
	case "", "apparmor", "selinux", "none":
	default:
		return h, fmt.Errorf("--lsm %q must be apparmor, selinux or none", f.lsm)
	}
	for _, s := range f.nodes {
		path, text, ok := strings.Cut(s, "=")
		if !ok {
			return h, fmt.Errorf("--node %q must be PATH=TYPE:MAJOR:MINOR:MODE:UID:GID", s)
		}
		node, err := predict.ParseNode(text)
		if err != nil {
			return h, err
		}
		h.Devices[path] = node
	}
	return h, nil
}
