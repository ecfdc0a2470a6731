package appraise

import (
	"bufio"
	"context"
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/replay"
	"github.com/cima-project/cima/logs/canonical"
	"github.com/cima-project/cima/rpc/cimactl/command"
)

// maxLine bounds a line of --lines, in bytes: a bundle, its nonce and user data.
const maxLine = command.MaxEvidence + 64<<10

// one is a piece of evidence among many, and what became of it.
type one struct {
	name   string
	bundle []byte
	asked  verify.Asked
	err    error // it can't be read, or not be appraised
	result *verify.Result
	done   chan struct{}
}

// line is what --lines reads: a JSON object a line.
type line struct {
	Name     string         `json:"name,omitzero"` // for the output; default: the line's number
	Nonce    string         `json:"nonce"`         // hex
	UserData *[]byte        `json:"user_data,omitzero"`
	Evidence jsontext.Value `json:"evidence"`
}

// many appraises what each gives, jobs at a time, and prints a line for each, in order. It
// holds no more than it works on. It ends with the gravest exit code.
func many(c *cobra.Command, each func(yield func(*one) bool), opts verify.Options, jobs int, asJSON bool) error {
	if jobs < 1 {
		return fmt.Errorf("--jobs must be at least 1, not %d", jobs)
	}
	appraiser, err := verify.NewAppraiser(opts)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(c.Context())
	defer cancel()
	work, inOrder := make(chan *one), make(chan *one, jobs)
	for range jobs {
		go func() {
			for o := range work {
				if o.err == nil {
					o.result, o.err = bundleBy(ctx, appraiser, o.name, o.bundle, o.asked)
					o.bundle = nil
				}
				close(o.done)
			}
		}()
	}
	go func() {
		defer close(inOrder)
		defer close(work)
		for o := range each {
			o.done = make(chan struct{})
			select {
			case inOrder <- o:
			case <-ctx.Done():
				return
			}
			work <- o // the workers go on until work is closed
		}
	}()
	worst := 0
	var failed error
	for o := range inOrder {
		<-o.done
		if failed == nil {
			if failed = printOne(c, o, asJSON); failed != nil {
				cancel()
			}
			worst = Worse(worst, o.code())
		}
	}
	switch {
	case failed != nil:
		return failed
	case c.Context().Err() != nil:
		return c.Context().Err()
	case worst != 0:
		return command.Exit(worst)
	}
	return nil
}

// code is the exit code that this evidence alone would have.
func (o *one) code() int {
	if o.err == nil {
		return o.result.Verdict.ExitCode()
	}
	var f *command.Failure
	if errors.As(CollateralFailure(o.err), &f) {
		return f.Code
	}
	return command.Failed
}

// manyResult is a result among many, as --json prints it. Exactly one of its members but
// the name is there.
type manyResult struct {
	Name   string         `json:"name"`
	Error  string         `json:"error,omitzero"`
	Result *verify.Result `json:"result,omitzero"`
}

func printOne(c *cobra.Command, o *one, asJSON bool) error {
	if asJSON {
		r := manyResult{Name: o.name, Result: o.result}
		if o.err != nil {
			r.Error = o.err.Error()
		}
		return command.PrintJSON(c, r)
	}
	word, why := "error", ""
	if o.err != nil {
		why = o.err.Error()
	} else {
		word, why = string(o.result.Verdict), o.result.Reason
	}
	_, err := fmt.Fprintf(c.OutOrStdout(), "%s: %s: %s\n", replay.Printable(o.name), word, replay.Printable(why))
	return err
}

// Worse returns the graver of two exit codes: malformed, not authentic, not trusted, the
// network, any other error.
func Worse(a, b int) int {
	for _, code := range []int{command.Malformed, command.Disagrees, command.NotMet, command.Network, command.Failed} {
		if a == code || b == code {
			return code
		}
	}
	return 0
}

// lineByLine appraises the lines of a file, or of stdin.
func lineByLine(c *cobra.Command, path string, opts verify.Options, jobs int, asJSON bool) error {
	if opts.Nonce != nil || opts.UserData != nil {
		return errors.New("--lines must come without --nonce and --user-data: each line has its own")
	}
	in := c.InOrStdin()
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	return many(c, ofLines(in, opts.NonceMade), opts, jobs, asJSON)
}

// ofFiles yields evidence from files, of which all were asked the same.
func ofFiles(paths []string, asked verify.Asked) func(yield func(*one) bool) {
	return func(yield func(*one) bool) {
		for _, path := range paths {
			o := &one{name: path, asked: asked}
			o.bundle, o.err = command.ReadEvidence(path)
			if !yield(o) {
				return
			}
		}
	}
}

// ofLines yields evidence from a stream, each with its own nonce. A line that is too long
// ends the stream: where the next one begins is not known.
func ofLines(in io.Reader, made time.Time) func(yield func(*one) bool) {
	return func(yield func(*one) bool) {
		scanner := bufio.NewScanner(in)
		scanner.Buffer(make([]byte, 64<<10), maxLine)
		n := 0
		for scanner.Scan() {
			n++
			if !yield(parseLine(scanner.Bytes(), n, made)) {
				return
			}
		}
		if err := scanner.Err(); err != nil {
			yield(&one{name: fmt.Sprint("line ", n+1), err: fmt.Errorf("line %d must have at most %d bytes: %w", n+1, maxLine, err)})
		}
	}
}

func parseLine(text []byte, n int, made time.Time) *one {
	o := &one{name: fmt.Sprint("line ", n), asked: verify.Asked{NonceMade: made}}
	var l line
	if err := canonical.Unmarshal(text, &l); err != nil {
		o.err = &command.Failure{Err: fmt.Errorf("line %d: %w", n, err), Code: command.Malformed}
		return o
	}
	if l.Name != "" {
		o.name = l.Name
	}
	if l.Evidence == nil {
		o.err = &command.Failure{Err: fmt.Errorf("line %d must have evidence", n), Code: command.Malformed}
		return o
	}
	o.asked.UserData = l.UserData
	if o.asked.Nonce, o.err = command.ReadNonce(l.Nonce, strings.NewReader("")); o.err == nil {
		o.bundle = append([]byte(nil), l.Evidence...)
	}
	return o
}

// defaultJobs is one for each processor.
func defaultJobs() int { return runtime.GOMAXPROCS(0) }
