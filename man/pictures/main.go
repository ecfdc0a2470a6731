// Program pictures draws the documentation's pictures: it makes FILE.svg of each FILE.txt in
// man/pictures, the text from which the picture is made. `make pictures` runs it; a test holds
// the committed pictures against their texts.
//
// A text has a line for each thing; | breaks a label into lines, and the first is set off:
//
//	title TEXT              what the picture shows
//	desc TEXT               the same at length, for those who don't see it; may come again
//
// and either boxes on a grid, columns and rows counted from 1,
//
//	box NAME COLUMN ROW KIND LABEL    KIND: plain, ours, result
//	group COLUMN ROW COLUMN ROW LABEL a frame round the cells from the first to the second
//	head COLUMN LABEL                 of a column
//	arrow NAME NAME LABEL             between neighbours in a row or a column; <NAME: both ways
//
// or what several do one after the other:
//
//	actor NAME KIND LABEL
//	say NAME NAME LABEL     from one to another
//	note NAME LABEL         what one does by itself
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	dir := flag.String("dir", "man/pictures", "`DIR` with the texts")
	flag.Parse()
	if err := draw(*dir); err != nil {
		fmt.Fprintln(os.Stderr, "pictures:", err)
		os.Exit(1)
	}
}

// draw draws each text of a directory.
func draw(dir string) error {
	texts, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err == nil && len(texts) == 0 {
		err = fmt.Errorf("%s has no texts", dir)
	}
	for _, path := range texts {
		if err != nil {
			break
		}
		var text, picture []byte
		if text, err = os.ReadFile(path); err != nil {
			break
		}
		if picture, err = of(string(text)); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		err = os.WriteFile(strings.TrimSuffix(path, ".txt")+".svg", picture, 0o644)
	}
	return err
}

// of draws a text.
func of(text string) ([]byte, error) {
	p, err := read(text)
	if err != nil {
		return nil, err
	}
	c := &canvas{}
	if len(p.actors) > 0 {
		p.sequence(c)
	} else {
		p.grid(c)
	}
	if c.err != nil {
		return nil, c.err
	}
	return c.document(p.title, strings.Join(p.desc, " ")), nil
}
