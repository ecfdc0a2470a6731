package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// Watching is the flag --watch of commands that show how something stands.
type Watching struct{ every time.Duration }

// Flag adds the flag to a command.
func (w *Watching) Flag(c *cobra.Command) {
	c.Flags().DurationVar(&w.every, "watch", 0, "show it again each `TIME`, such as 2s")
}

// Check refuses what can't be watched. asData says that the output is for programs.
func (w *Watching) Check(c *cobra.Command, asData bool) error {
	given := c.Flags().Changed("watch")
	switch {
	case given && w.every < time.Second:
		return errors.New("--watch must be at least 1s: each time the daemon is asked")
	case given && asData:
		return errors.New("--watch must come without --json and --metrics: it is for people")
	case given && Columns(c.OutOrStdout()) == 0:
		return Hinted(errors.New("--watch must have a terminal on stdout"), "a loop of the shell is for files and pipes")
	}
	return nil
}

// Show draws once, or again and again where that is wanted. What is drawn replaces what
// stood there.
func (w *Watching) Show(ctx context.Context, out io.Writer, draw func(io.Writer) error) error {
	if w.every == 0 {
		return draw(out)
	}
	ticker := time.NewTicker(w.every)
	defer ticker.Stop()
	for {
		var b bytes.Buffer
		if err := draw(&b); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "\x1b[H\x1b[2J%s", b.Bytes()); err != nil { // ECMA-48: CUP, ED
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// Columns is how wide the terminal is that out writes to: 0 where it is none.
func Columns(out io.Writer) int {
	f, ok := out.(*os.File)
	if !ok {
		return 0
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return 0
	}
	return max(columns(f), 40)
}

// Fit makes rows of cells fit a terminal of so many columns: ids are short, and the widest
// column is cut, to the next one's width at most, until a row fits. 0 columns: nothing is cut.
func Fit(rows [][]string, wide int) [][]string {
	if wide == 0 || len(rows) == 0 {
		return rows
	}
	const between = 2
	for {
		total, widest, most, second := 0, 0, 0, 0
		for i := range rows[0] {
			n := 0
			for _, row := range rows {
				n = max(n, utf8.RuneCountInString(row[i]))
			}
			total += n + between
			if n > most {
				widest, most, second = i, n, most
			} else {
				second = max(second, n)
			}
		}
		over := total - between - wide
		if over <= 0 || most <= 8 {
			return rows
		}
		for _, row := range rows {
			row[widest] = cut(row[widest], max(most-over, min(second, most-1), 8))
		}
	}
}

// cut leaves the most characters of a text, its end more than its beginning: names differ
// there.
func cut(text string, most int) string {
	n := utf8.RuneCountInString(text)
	if n <= most {
		return text
	}
	r := []rune(text)
	head := most / 3
	return string(r[:head]) + "…" + string(r[n-(most-head-1):])
}

// ShortID is a container's id as docker ps shows it, 12 digits behind its owner's name,
// where it is for a terminal.
func ShortID(id string, wide int) string {
	if wide == 0 {
		return id
	}
	at := strings.LastIndexByte(id, '/') + 1
	return id[:at] + id[at:min(len(id), at+12)]
}
