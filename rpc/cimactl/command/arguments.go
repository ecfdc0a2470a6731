package command

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cima-project/cima/rpc"
)

// RefuseEmpty refuses flags that are given and empty: without the flag less is checked,
// and that is not what the user wants.
func RefuseEmpty(c *cobra.Command) (err error) {
	c.Flags().Visit(func(f *pflag.Flag) {
		if f.Value.Type() == "string" && f.Value.String() == "" {
			err = Hinted(fmt.Errorf("--%s is given and must not be empty", f.Name), "is a variable of the shell not set?")
		}
	})
	return err
}

// Usage is an error in flags or arguments. Its hint is the flag that was meant, or the
// command's help.
func Usage(c *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		if meant := nearestFlag(c, unknown.GetSpecifiedName()); meant != "" {
			return Hinted(err, "did you mean --%s? `%s --help` lists all", meant, c.CommandPath())
		}
	}
	return Hinted(err, "`%s --help` shows what it takes, and an example", c.CommandPath())
}

// ExplainArguments lets a command and its subcommands say in plain words what is wrong
// with their arguments.
func ExplainArguments(c *cobra.Command) {
	fits := c.Args
	c.Args = func(c *cobra.Command, args []string) error {
		if fits(c, args) == nil {
			return nil
		}
		if c.HasSubCommands() {
			return unknownVerb(c, args[0])
		}
		given := "none given"
		if len(args) > 0 {
			given = fmt.Sprintf("%d given, %q", len(args), args)
		}
		return Usage(c, fmt.Errorf("wrong number of arguments, %s; it must be: %s", given, c.UseLine()))
	}
	for _, below := range c.Commands() {
		ExplainArguments(below)
	}
}

// KnownVerb refuses a verb that isn't there, before its flags are looked at: those of the
// verb that was meant are unknown, too, and --help would be that of all.
func KnownVerb(root *cobra.Command, args []string) error {
	c, rest, err := root.Find(args)
	if err == nil && c.Name() == "help" {
		c, rest, err = root.Find(rest)
	}
	if err != nil || !c.HasSubCommands() {
		return err
	}
	for len(rest) > 0 {
		word := rest[0]
		rest = rest[1:]
		if f := c.Flag(strings.TrimPrefix(word, "--")); f != nil && f.Value.Type() != "bool" && len(rest) > 0 {
			rest = rest[1:] // its value
		}
		switch {
		case word == "--":
			return nil
		case !strings.HasPrefix(word, "-") && !strings.HasPrefix(word, "__"): // cobra's own, for completions
			return unknownVerb(c, word)
		case strings.HasPrefix(word, "__"):
			return nil
		}
	}
	return nil
}

func unknownVerb(c *cobra.Command, name string) error {
	err := fmt.Errorf("unknown command %q", name)
	if method := methodsByFolded()[rpc.FoldMethod(name)]; method != "" && !c.HasParent() {
		return Hinted(err, "%s is a method of the daemon: `%s call %s`", method, c.CommandPath(), method)
	}
	var names []string
	for _, below := range c.Commands() {
		if below.IsAvailableCommand() {
			names = append(names, below.Name())
		}
	}
	if meant := nearest(name, names); meant != "" {
		return Hinted(err, "did you mean `%s %s`? `%s --help` lists all", c.CommandPath(), meant, c.CommandPath())
	}
	return Usage(c, err)
}

// Method is the daemon's method that was probably meant: its name in another spelling, or
// with a letter or two that differ. "" is none.
func Method(name string) string {
	folded := methodsByFolded()
	if meant := folded[rpc.FoldMethod(name)]; meant != "" {
		return meant
	}
	return folded[nearest(rpc.FoldMethod(name), slices.Collect(maps.Keys(folded)))]
}

func methodsByFolded() map[string]string {
	folded := make(map[string]string)
	for _, m := range append(rpc.CallerMethods(), rpc.MethodDiscover, rpc.MethodGetStatus, rpc.MethodListContainers, rpc.MethodLookUpProcess) {
		folded[rpc.FoldMethod(m)] = m
	}
	return folded
}

func nearestFlag(c *cobra.Command, name string) string {
	var names []string
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	return nearest(name, names)
}

// nearest is the name that was probably meant: it begins with what was written, or
// differs from it in a letter or two. "" is none.
func nearest(written string, names []string) string {
	best, least := "", 3
	for _, name := range slices.Sorted(slices.Values(names)) {
		far := distance(written, name)
		if len(written) > 1 && strings.HasPrefix(name, written) {
			far = 1
		}
		if far < least && far < len(written) {
			best, least = name, far
		}
	}
	return best
}

// maxWord bounds what is compared letter by letter: no name is longer.
const maxWord = 64

// distance is the number of letters to put in, take out, replace or swap with the next.
func distance(a, b string) int {
	if len(a) > maxWord || len(b) > maxWord {
		return maxWord
	}
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			other := 1
			if a[i-1] == b[j-1] {
				other = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+other)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
