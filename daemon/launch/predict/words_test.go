package predict

import (
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestWords(t *testing.T) {
	for line, want := range map[string][]string{
		"":                                nil,
		"docker  run\tx":                  {"docker", "run", "x"},
		`a 'b c' "d e" f\ g`:              {"a", "b c", "d e", "f g"},
		`-e 'A=$B' -e "C=\$D" ""`:         {"-e", "A=$B", "-e", "C=$D", ""},
		`a"b"'c'\d`:                       {"abcd"},
		"docker run \\\n  -it \\\r\n img": {"docker", "run", "-it", "img"},
		`"a\b\"\\" "x` + "\\\n" + `y"`:    {`a\b"\`, "xy"},
		`{} a{b} ~x~ a#b x~`:              nil, // ~ at the start
		`{} a{b} a~ a#b`:                  {"{}", "a{b}", "a~", "a#b"},
	} {
		got, err := shellWords(line)
		if want == nil && line != "" {
			if err == nil {
				t.Errorf("%q became %q", line, got)
			}
			continue
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q became %q, %v, and must be %q", line, got, err, want)
		}
	}
}

// Whatever a shell would expand or do besides is refused, with a hint.
func TestWordsOfAShellAlone(t *testing.T) {
	for _, line := range []string{
		"run $A", "run ${A}", `run "$A"`, "run $(id)", "run `id`", "run \"`id`\"", "a | b", "a; b", "a && b", "a & b", "a > b", "a < b",
		"(a)", "a\nb", "a *", "a b?", "a [x]", "a {b,c}", "a {1..2}", "~/x", "a ~", "# a", "a #b", `a "b`, `a 'b`, `a \`,
	} {
		_, err := shellWords(line)
		var hint interface{ Hint() string }
		if !errors.As(err, &hint) || hint.Hint() == "" {
			t.Errorf("%q: %v, and no hint", line, err)
		}
	}
	for _, line := range []string{strings.Repeat("a", maxLine+1), strings.Repeat("a ", maxWords+1)} {
		if _, err := shellWords(line); err == nil {
			t.Errorf("a line of %d bytes was split", len(line))
		}
	}
}

// What shellWords accepts, sh splits alike.
func FuzzWords(f *testing.F) {
	sh, err := exec.LookPath("sh")
	for _, line := range []string{`a 'b c' "d\"" e\ f`, "a\\\nb", `''`, `"\a\$"`, "a{b}c", `a\`, "\x00", "é 'ü'", "a=b", "!x", "]"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		words, wrong := shellWords(line)
		if wrong != nil || err != nil || len(line) > 4096 || strings.ContainsAny(line, "\x00\r\v\f") {
			return
		}
		out, err := exec.Command(sh, "-c", `printf '%s\0' `+strings.TrimSpace(line)).Output()
		if err != nil {
			return // printf takes it for an option
		}
		want := ""
		for _, w := range words {
			want += w + "\x00"
		}
		if len(words) == 0 {
			want = "\x00"
		}
		if string(out) != want {
			t.Fatalf("%q became %q, and sh has %q", line, words, out)
		}
	})
}
