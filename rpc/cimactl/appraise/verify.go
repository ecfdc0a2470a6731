// Package appraise answers: how does one appraise evidence from the command line?
package appraise

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/card"
	"github.com/cima-project/cima/hw/verify/page"
	"github.com/cima-project/cima/rpc/cimactl/command"
	"github.com/cima-project/cima/rpc/cimactl/instead"
	"github.com/cima-project/cima/rpc/cimactl/replay"
)

// Verify is the command `cimactl verify`.
func Verify() *cobra.Command {
	var nonce, made, stream, html string
	var jobs int
	var wanted Wanted
	var files replay.Logs
	var trust Trust
	var then handedOn
	var asJSON, verbose bool
	c := &cobra.Command{
		Use:   "verify {EVIDENCE… --nonce HEX | --lines FILE | --quote FILE}",
		Short: "Appraise evidence: is it true, and is it what was expected?",
		Long: `Appraise evidence, offline; "-" is stdin. With --quote, another system's: a
quote, and the logs with it. Several files, or --lines, give a result a line.

Exit status: 0 trusted, 2 not authentic, 4 not trusted, 5 malformed, 3 network.`,
		Example: `  cimactl verify evidence.json --nonce "$NONCE" --policy policy.toml
  cimactl verify --quote quote.bin --boot-log ccel.bin`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: command.Files([]string{"json"}),
	}
	files.Flags(c)
	trust.Flags(c)
	c.Flags().StringVar(&nonce, "nonce", "", "the `HEX` that you sent; - reads a line of stdin")
	c.Flags().StringVar(&made, "nonce-made", "", "`TIME` at which you made the nonce, RFC 3339")
	c.Flags().StringVar(&wanted.userData, "user-data", "", "`FILE` with the user data that must be bound")
	c.Flags().StringArrayVar(&wanted.Policies, "policy", nil, "`FILE` of reference values; a second has revocations")
	wanted.Flags(c)
	then.flags(c)
	_ = c.MarkFlagFilename("policy", "toml")
	c.Flags().StringVar(&stream, "lines", "", "`FILE` of lines of JSON with evidence and nonce")
	c.Flags().IntVar(&jobs, "jobs", defaultJobs(), "appraise `N` at a time")
	c.Flags().BoolVar(&asJSON, "json", false, "print the attestation result as JSON")
	c.Flags().StringVar(&html, "html", "", "write the result to `FILE`, as a page to look at")
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "print each step, and all that is proved and not")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := fit(&files, args, stream); err != nil {
			return err
		}
		if asJSON && verbose {
			return errors.New("--json and --verbose must not both be given: JSON has each step")
		}
		if len(args) > 0 && args[0] == "-" && nonce == "-" {
			return errors.New("evidence and nonce must not both come from stdin")
		}
		if html == "-" {
			return errors.New("--html must name a file: the result is printed on stdout")
		}
		if html != "" && (stream != "" || len(args) > 1) {
			return errors.New("--html must come with one EVIDENCE, or --quote: a page is about one result")
		}
		opts, err := trust.Options(c)
		if err != nil {
			return err
		}
		if nonce != "" || files.Quote == "" && stream == "" {
			if nonce == "" {
				return command.Hinted(command.ErrNoNonce, "give the one that you sent as --nonce HEX; `cimactl policy test` takes evidence with whatever nonce it has, and says nothing of its age")
			}
			if opts.Nonce, err = command.ReadNonce(nonce, c.InOrStdin()); err != nil {
				return err
			}
		}
		if made != "" {
			if opts.NonceMade, err = time.Parse(time.RFC3339, made); err != nil {
				return command.Hinted(fmt.Errorf("--nonce-made %s: %w", made, err), "give it as 2026-12-31T23:59:59Z; `date -u +%%FT%%TZ` writes it so")
			}
		}
		if err := wanted.Read(c, &opts); err != nil {
			return err
		}
		if err := then.prepare(c, &opts, stream == "" && len(args) == 1, asJSON); err != nil {
			return err
		}
		switch {
		case stream != "":
			return lineByLine(c, stream, opts, jobs, asJSON)
		case len(args) > 1:
			return many(c, ofFiles(args, opts.Asked), opts, jobs, asJSON)
		}
		result, shown, err := appraise(c, args, &files, opts)
		if err != nil {
			return CollateralFailure(err)
		}
		if html != "" {
			if err := command.WritePage(html, shown); err != nil {
				return err
			}
		}
		if err := printResult(c, then.resultTo(c), result, asJSON, verbose); err != nil {
			return err
		}
		if err := then.write(c, result); err != nil {
			return err
		}
		if code := result.Verdict.ExitCode(); code != 0 {
			return command.Exit(code)
		}
		return nil
	}
	return c
}

// fit checks that the arguments name one thing to appraise.
func fit(files *replay.Logs, args []string, stream string) error {
	if stream != "" && (len(args) > 0 || *files != (replay.Logs{})) {
		return errors.New("--lines must come without EVIDENCE and --quote: each line has its own evidence")
	}
	if stream != "" {
		return nil
	}
	if len(args) > 0 && *files != (replay.Logs{}) {
		return errors.New("EVIDENCE and --quote must not both be given: evidence has its own quote and logs")
	}
	if len(args) == 0 && files.Quote == "" {
		return command.Hinted(errors.New("nothing to verify is given"), "give files with EVIDENCE, --lines FILE or --quote FILE; logs without a quote are for `cimactl replay`")
	}
	return nil
}

func appraise(c *cobra.Command, args []string, files *replay.Logs, opts verify.Options) (*verify.Result, page.Shown, error) {
	if len(args) == 0 {
		f, err := files.Read()
		if err != nil {
			return nil, page.Shown{}, err
		}
		result, err := verify.AppraiseQuote(c.Context(), f, opts)
		if err == nil && result.Verdict == verify.Malformed && bytes.HasPrefix(bytes.TrimSpace(f.Quote), []byte("{")) {
			result.Hint = "this is JSON, whole evidence perhaps: give it without --quote"
		}
		return result, page.OfQuote(files.Quote, f, result), err
	}
	bundle, err := command.ReadEvidence(args[0])
	if err != nil {
		return nil, page.Shown{}, err
	}
	result, err := Bundle(c.Context(), args[0], bundle, opts)
	return result, page.OfBundle(args[0], bundle, result), err
}

// Bundle appraises the bundle in a file. If the file holds something else that
// has to do with evidence, the hint says so.
func Bundle(ctx context.Context, path string, bundle []byte, opts verify.Options) (*verify.Result, error) {
	appraiser, err := verify.NewAppraiser(opts)
	if err != nil {
		return nil, err
	}
	return bundleBy(ctx, appraiser, path, bundle, opts.Asked)
}

func bundleBy(ctx context.Context, appraiser *verify.Appraiser, path string, bundle []byte, asked verify.Asked) (*verify.Result, error) {
	result, err := appraiser.Appraise(ctx, bundle, asked)
	if err == nil && result.Verdict == verify.Malformed {
		if hint := instead.OfEvidence(path, bundle); hint != "" {
			result.Hint = hint
		}
	}
	return result, err
}

func printResult(c *cobra.Command, out io.Writer, r *verify.Result, asJSON, verbose bool) error {
	switch {
	case asJSON:
		return command.PrintJSON(c, r)
	case verbose:
		return r.WriteTable(command.Coloured(out))
	}
	return card.Of(r).Write(command.Coloured(out))
}
