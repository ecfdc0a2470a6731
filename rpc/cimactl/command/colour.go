package command

import (
	"bytes"
	"io"
	"os"
	"runtime"
	"strings"
)

// Colours of the terminal (ECMA-48, SGR).
const (
	red    = "31"
	green  = "32"
	yellow = "33"
)

// words are those that a line can begin with and that have a colour. A longer one
// comes before one that it begins with.
var words = []struct{ word, colour string }{
	{"trusted", green},
	{"authentic, not trusted", yellow},
	{"authentic", green},
	{"not authentic", red},
	{"malformed", red},
	{"meets ", green},
	{"FAILS ", red},
	{"fail ", red},
	{"warn ", yellow},
	{"+ ", green},
	{"- ", red},
	{"cimactl:", red},
	{"hint:", yellow},
}

// Coloured is a writer that colours the words that lines begin with, if out is a
// terminal and the user wants colours (https://no-color.org). Else it is out. What
// evidence brings can't pass for a colour: nothing unprintable of it is written.
func Coloured(out io.Writer) io.Writer {
	f, ok := out.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" || runtime.GOOS == "windows" {
		return out
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return out
	}
	return painter{out}
}

// painter colours whole lines: each Write must end with one.
type painter struct{ out io.Writer }

func (p painter) Write(text []byte) (int, error) {
	var b strings.Builder
	for line := range bytes.Lines(text) {
		b.WriteString(painted(string(line)))
	}
	if _, err := io.WriteString(p.out, b.String()); err != nil {
		return 0, err
	}
	return len(text), nil
}

func painted(line string) string {
	for _, w := range words {
		if rest, ok := strings.CutPrefix(line, w.word); ok {
			return "\x1b[" + w.colour + "m" + w.word + "\x1b[0m" + rest
		}
	}
	return line
}
