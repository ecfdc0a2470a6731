package policy

import (
	"bytes"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/cima-project/cima/rpc/cimactl/command"
)

// maxOldPolicy bounds the bytes of a policy of CIMA 0.5; known ones have a few hundred.
const maxOldPolicy = 64 << 10

func convertCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "convert FILE",
		Short: "Translate a policy of form 1, or a policy of CIMA 0.5",
		Long: `Translate a policy of form 1 (TOML without cima_policy) into form 2. It never
trusts more than before: what allowed more and can't be said in form 2 is left
out, with a comment; what demanded more and can't be said is refused by name.
Or translate /etc/cima/policy.yaml of CIMA 0.5 into cimad.toml: a key without a
counterpart becomes a comment (cima-from-05(7)). Comments are repeated on
stderr. "-" reads stdin.`,
		Example: "  cimactl policy convert old.toml >policy.toml\n  cimactl policy convert policy.yaml >cimad.toml",
		Args:    cobra.ExactArgs(1),

		ValidArgsFunction: command.OneFile("toml", "yaml", "yml"),
		RunE: func(c *cobra.Command, args []string) error {
			text, err := command.ReadBounded(args[0], command.MaxPolicy)
			if err != nil {
				return err
			}
			out, notes, err := convertText(args[0], text)
			if err != nil {
				return &command.Failure{Err: fmt.Errorf("%s: %w", args[0], err), Code: command.Malformed}
			}
			for _, n := range notes {
				fmt.Fprintln(c.ErrOrStderr(), "cimactl: note:", n)
			}
			_, err = io.WriteString(c.OutOrStdout(), out)
			return err
		},
	}
}

// convertText converts a policy of form 1, which is TOML and not empty, or of CIMA 0.5.
func convertText(name string, text []byte) (out string, notes []string, err error) {
	var tables map[string]any
	if _, err := toml.Decode(string(text), &tables); len(tables) > 0 && err == nil || strings.HasSuffix(name, ".toml") {
		p, err := readFormOne(text)
		if err != nil {
			return "", nil, err
		}
		return p.convert()
	}
	if len(text) > maxOldPolicy {
		return "", nil, fmt.Errorf("a policy of CIMA 0.5 must have at most %d bytes", maxOldPolicy)
	}
	p, err := readOldPolicy(text)
	if err != nil {
		return "", nil, err
	}
	out, notes = p.convert()
	return out, notes, nil
}

// oldPolicy is a policy of CIMA 0.5; nil and empty are keys that were not there.
type oldPolicy struct {
	backend, hash string
	system        struct {
		parameters bool
		processes  []string
	}
	isolated   *bool
	kubernetes struct {
		parameters bool
		pods       []string
	}
}

// readOldPolicy reads one YAML document, and refuses keys that CIMA 0.5 did not know.
func readOldPolicy(text []byte) (*oldPolicy, error) {
	d := yaml.NewDecoder(bytes.NewReader(text))
	var document yaml.Node
	if err := d.Decode(&document); err == io.EOF {
		return &oldPolicy{}, nil // 0.5 had defaults, too
	} else if err != nil {
		return nil, err
	}
	if err := d.Decode(new(yaml.Node)); err != io.EOF {
		return nil, fmt.Errorf("there must be one document")
	}
	p := &oldPolicy{}
	parts := map[string]func(*yaml.Node) error{
		"system": keys(map[string]func(*yaml.Node) error{
			"withParameter": scalar(&p.system.parameters), "processes": list(&p.system.processes),
		}),
		"container": keys(map[string]func(*yaml.Node) error{
			"isolated": func(n *yaml.Node) error { p.isolated = new(bool); return scalar(p.isolated)(n) },
		}),
		"kubernetes": keys(map[string]func(*yaml.Node) error{
			"withParameter": scalar(&p.kubernetes.parameters), "pods": list(&p.kubernetes.pods),
		}),
	}
	top := map[string]func(*yaml.Node) error{
		"backend": scalar(&p.backend), "hashAlgorithm": scalar(&p.hash), "measure": keys(parts),
	}
	for name, read := range parts { // some of its documents leave "measure" out
		top[name] = read
	}
	return p, keys(top)(document.Content[0])
}

// keys reads a mapping that has some of these keys, each once.
func keys(known map[string]func(*yaml.Node) error) func(*yaml.Node) error {
	return func(n *yaml.Node) error {
		if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
			return nil
		}
		if n.Kind != yaml.MappingNode {
			return fmt.Errorf("line %d: must be a mapping", n.Line)
		}
		seen := make(map[string]bool)
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			read := known[key.Value]
			if read == nil || seen[key.Value] {
				return fmt.Errorf("line %d: key %q must be known, and must not be there twice", key.Line, key.Value)
			}
			seen[key.Value] = true
			if err := read(n.Content[i+1]); err != nil {
				return fmt.Errorf("%s: %w", key.Value, err)
			}
		}
		return nil
	}
}

// scalar reads a string or a boolean.
func scalar[T string | bool](to *T) func(*yaml.Node) error {
	return func(n *yaml.Node) error {
		if n.Kind != yaml.ScalarNode || n.Decode(to) != nil {
			return fmt.Errorf("line %d: must be one value of the type %T", n.Line, *to)
		}
		if s, ok := any(to).(*string); ok && !utf8.ValidString(*s) { // !!binary
			return fmt.Errorf("line %d: %q must be UTF-8, as all of cimad.toml", n.Line, *s)
		}
		return nil
	}
}

func list(to *[]string) func(*yaml.Node) error {
	return func(n *yaml.Node) error {
		if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
			return nil
		}
		if n.Kind != yaml.SequenceNode {
			return fmt.Errorf("line %d: must be a list", n.Line)
		}
		for _, e := range n.Content {
			var one string
			if err := scalar(&one)(e); err != nil {
				return err
			}
			*to = append(*to, one)
		}
		return nil
	}
}

// systemTable is a [[system]] rule as cimad reads it.
type systemTable struct {
	Path      string `toml:"path"`
	Arguments bool   `toml:"arguments"`
}

// convert writes cimad.toml; notes name what has no counterpart there.
func (p *oldPolicy) convert() (text string, notes []string) {
	var b strings.Builder
	b.WriteString("# Made of a policy of CIMA 0.5, see cima-from-05(7) and cimad.toml(5).\n")
	note := func(format string, args ...any) {
		n := fmt.Sprintf(format, args...)
		notes = append(notes, n)
		fmt.Fprintf(&b, "# %s\n", n)
	}
	if p.backend != "" && p.backend != "ima" {
		note("backend: %q has no counterpart: there is one backend, and it needs no IMA", p.backend)
	}
	if p.hash != "" && p.hash != "sha384" {
		note("hashAlgorithm: %q has no counterpart: digests are SHA-384, as RTMRs take no other", p.hash)
	}
	isolation := "redacted"
	if p.isolated != nil && !*p.isolated {
		isolation = "none"
	}
	fmt.Fprintf(&b, "isolation = %q\n", isolation)
	if len(p.kubernetes.pods) > 0 {
		note("measure.kubernetes.pods (%q) has no counterpart: pods are containers, and all are measured; what must run, the verifier's policy says (cimactl policy init)", p.kubernetes.pods)
	}
	var system []systemTable
	for _, process := range p.system.processes {
		if !path.IsAbs(process) || path.Clean(process) != process {
			note("measure.system.processes: %q is no absolute, clean path: name a path or a unit in a [[system]] table", process)
		} else if s := (systemTable{process, p.system.parameters}); !slices.Contains(system, s) {
			system = append(system, s)
		}
	}
	if len(system) > 0 {
		b.WriteString("\n")
		e := toml.NewEncoder(&b)
		e.Indent = ""
		if err := e.Encode(map[string]any{"system": system}); err != nil {
			panic(err) // strings and booleans always encode
		}
	}
	return b.String(), notes
}
