package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestCommitted: each committed picture is what its text gives, whole XML that loads nothing
// and runs nothing, with words for those who don't see it; README.md or ARCHITECTURE.md shows it.
func TestCommitted(t *testing.T) {
	texts, err := filepath.Glob("*.txt")
	if err != nil || len(texts) != 3 {
		t.Fatalf("%q: %v", texts, err)
	}
	var shown strings.Builder
	for _, path := range []string{"README.md", "ARCHITECTURE.md"} {
		b, err := os.ReadFile(filepath.Join("..", "..", path))
		if err != nil {
			t.Fatal(err)
		}
		shown.Write(b)
	}
	for _, path := range texts {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		want, err := of(string(text))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		svg := strings.TrimSuffix(path, ".txt") + ".svg"
		got, err := os.ReadFile(svg)
		if err != nil || string(got) != string(want) {
			t.Errorf("%s is not what %s gives, %v: run make pictures", svg, path, err)
		}
		if !regexp.MustCompile(`!\[[^\]]+\]\(man/pictures/` + regexp.QuoteMeta(svg) + `\)`).MatchString(shown.String()) {
			t.Errorf("neither README.md nor ARCHITECTURE.md shows %s", svg)
		}
		if strings.Contains(string(want), "http") && strings.Count(string(want), "http") != 1 || strings.Contains(string(want), "<script") {
			t.Errorf("%s must load nothing and run nothing", svg)
		}
		if !strings.Contains(string(want), "prefers-color-scheme:dark") {
			t.Errorf("%s has one look", svg)
		}
		wellFormed(t, svg, want)
	}
}

func wellFormed(t *testing.T, name string, text []byte) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(string(text)))
	for {
		if _, err := d.Token(); err != nil {
			if !errors.Is(err, io.EOF) {
				t.Errorf("%s: %v", name, err)
			}
			return
		}
	}
}

const good = "title t\ndesc d\nbox a 1 1 plain A\nbox b 2 1 ours B|b\narrow a b label\n"

// TestWrong: a slip of the pen is an error that says what is wrong.
func TestWrong(t *testing.T) {
	if got, err := of(good); err != nil || !strings.Contains(string(got), ">label</text>") {
		t.Fatalf("%v\n%s", err, got)
	}
	for text, want := range map[string]string{
		good + "bux c 1 2 plain C":                                            `line 6: "bux" is no word`,
		good + "box c 1":                                                      "line 6: box must have 4 words and a text",
		good + "box c 0 1 plain C":                                            "from 1 to 12",
		good + "box c x 1 plain C":                                            "from 1 to 12",
		good + "box c 1 1 plain C":                                            "box c must be there once",
		good + "box a 1 2 plain C":                                            "box a must be there once",
		good + "box c 1 2 red C":                                              "box c must be there once",
		good + "arrow a c label":                                              "arrow a c",
		good + "arrow a a label":                                              "arrow a a",
		good + "box c 3 1 plain C\narrow a c label":                           "next to each other",
		good + "box c 2 2 plain C\narrow a c label":                           "next to each other",
		good + "actor x plain X":                                              "boxes or actors",
		"desc d\nbox a 1 1 plain A":                                           "must have a title",
		"title t\ndesc d":                                                     "boxes or actors",
		"title t\ndesc d\nactor x plain X\nsay x y label":                     "between two actors",
		"title t\ndesc d\nactor x plain X\nsay x x label":                     "between two actors",
		"title t\ndesc d\nactor x plain X\nactor x plain X":                   "actor x must be there once",
		strings.Replace(good, "label", strings.Repeat("long ", 20), 1):        "must have at most",
		strings.Replace(good, "B|b", strings.Repeat("b|", 9)+"b", 1):          "more lines than its box",
		strings.Replace(good, "plain A", "plain "+strings.Repeat("A", 60), 1): "must have at most",
		"title t\ndesc d\nactor x plain X\nactor y plain Y\nsay x y " + strings.Repeat("z", 80): "must have at most",
	} {
		if got, err := of(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.90q: %v, must say %q; %d bytes", text, err, want, len(got))
		}
	}
}

// TestText: what a label says is text, whatever is in it.
func TestText(t *testing.T) {
	got, err := of(strings.Replace(good, "label", `<b>&"'`, 1))
	if err != nil || strings.Contains(string(got), "<b>") {
		t.Errorf("%v\n%s", err, got)
	}
	wellFormed(t, "it", got)
}

// FuzzOf: any text gives whole XML or an error.
func FuzzOf(f *testing.F) {
	f.Add(good)
	f.Add("title t\ndesc d\nactor x plain X\nactor y ours Y\nsay x y a|b\nnote y c\n")
	f.Add("title t\ndesc d\nbox a 1 1 plain A\ngroup 1 1 12 12 g\nhead 3 h\n")
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := of(text); err == nil {
			wellFormed(t, "it", got)
		}
	})
}
