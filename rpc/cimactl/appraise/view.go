package appraise

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/hw/verify/page"
	"github.com/cima-project/cima/rpc/cimactl/command"
)

// View is the command `cimactl view`.
func View() *cobra.Command {
	var trust Trust
	var html string
	c := &cobra.Command{
		Use:   "view EVIDENCE",
		Short: "Look at evidence in a browser: what it says, and its events",
		Long: `Write evidence as a page, and open it in a browser. The evidence is appraised
without a policy and with whatever nonce it has, so it is authentic at best:
"cimactl verify --html" judges it. The page needs no network and no script.`,
		Example:           "  cimactl view evidence.json --html evidence.html",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: command.Files([]string{"json"}),
	}
	trust.Flags(c)
	c.Flags().StringVar(&html, "html", "", "write the page to `FILE`, and open nothing; - is stdout")
	c.RunE = func(c *cobra.Command, args []string) error {
		opts, err := trust.Options(c)
		if err != nil {
			return err
		}
		opts.Verifier = "cimactl " + c.Root().Version
		bundle, err := command.ReadEvidence(args[0])
		if err != nil {
			return err
		}
		result, err := Bundle(c.Context(), args[0], bundle, opts)
		if err != nil {
			return CollateralFailure(err)
		}
		shown := page.OfBundle(args[0], bundle, result)
		if html != "" {
			return command.WritePage(html, shown)
		}
		dir, err := os.MkdirTemp("", "cimactl-view-")
		if err != nil {
			return err
		}
		path := filepath.Join(dir, "evidence.html")
		if err := command.WritePage(path, shown); err != nil {
			return err
		}
		return open(c, path)
	}
	return c
}

// open shows a file by the desktop's own program.
func open(c *cobra.Command, path string) error {
	program := []string{"xdg-open"}
	switch runtime.GOOS {
	case "darwin":
		program = []string{"open"}
	case "windows":
		program = []string{"rundll32", "url.dll,FileProtocolHandler"}
	}
	err := exec.CommandContext(c.Context(), program[0], append(program[1:], path)...).Run()
	if err != nil {
		return command.Hinted(fmt.Errorf("the page %s can't be opened: %w", path, err), "--html FILE writes a page where you want it")
	}
	_, err = fmt.Fprintln(c.OutOrStdout(), path)
	return err
}
