package command

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Complete lets the shell complete what it can for a command and its subcommands: files
// where a flag's placeholder stands for one, and nothing where it doesn't. What a
// command completes by itself stays.
func Complete(c *cobra.Command) {
	if c.ValidArgsFunction == nil && len(c.ValidArgs) == 0 {
		c.ValidArgsFunction = cobra.NoFileCompletions
	}
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if _, ok := c.GetFlagCompletionFunc(f.Name); ok || f.Annotations[cobra.BashCompFilenameExt] != nil || f.Annotations[cobra.BashCompSubdirsInDir] != nil {
			return
		}
		_ = c.RegisterFlagCompletionFunc(f.Name, completionOf(f)) // fails for an unknown flag, and one that has a function
	})
	for _, below := range c.Commands() {
		Complete(below)
	}
}

// completionOf is what stands for a flag, by the placeholder in its help.
func completionOf(f *pflag.Flag) cobra.CompletionFunc {
	placeholder, _ := pflag.UnquoteUsage(f)
	switch kind, _, _ := strings.Cut(placeholder, "["); kind {
	case "FILE", "PATH", "PLACE":
		return files()
	case "PEM":
		return files("pem", "crt")
	case "DIR":
		return func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		}
	}
	return cobra.NoFileCompletions
}

// Files completes arguments: of the first by the first list of endings, of the second
// by the second, and of all others by the last. An empty list is any file.
func Files(endings ...[]string) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return files(endings[min(len(args), len(endings)-1)]...)(c, args, word)
	}
}

// OneFile completes a single argument.
func OneFile(endings ...string) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return files(endings...)(c, args, word)
	}
}

func files(endings ...string) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(endings) == 0 {
			return nil, cobra.ShellCompDirectiveDefault
		}
		return endings, cobra.ShellCompDirectiveFilterFileExt
	}
}
