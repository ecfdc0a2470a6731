// Fit makes the tables of a manual page as wide as the page: columns get widths (tbl(1)),
// long cells become text blocks, and words that are wider than their column may break.
// It reads roff of go-md2man from stdin and writes it to stdout.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// pageWidth is what a table may take of a page of 78 columns, and between what a column
// takes besides its text.
const (
	pageWidth = 71
	between   = 3
)

func main() {
	in, err := io.ReadAll(os.Stdin)
	if err == nil {
		_, err = os.Stdout.Write(fit(in))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fit:", err)
		os.Exit(1)
	}
}

// fit rewrites the tables, and leaves text unstretched.
func fit(page []byte) []byte {
	var out bytes.Buffer
	var table []string
	within := false
	lines := bufio.NewScanner(bytes.NewReader(page))
	lines.Buffer(nil, len(page)+1)
	for lines.Scan() {
		line := lines.Text()
		switch {
		case line == ".TS":
			within, table = true, nil
		case line == ".TE":
			within = false
			writeTable(&out, table)
		case within:
			table = append(table, line)
		default:
			fmt.Fprintln(&out, line)
			if strings.HasPrefix(line, ".TH") {
				fmt.Fprintln(&out, ".ad l")
			}
		}
	}
	return out.Bytes()
}

// writeTable writes a table of these lines: its options, its formats, the last of which
// ends with a full stop, and a line for each row.
func writeTable(out io.Writer, lines []string) {
	begin := 1 + slices.IndexFunc(lines, func(l string) bool { return strings.HasSuffix(l, ".") && !strings.Contains(l, "\t") })
	rows := cells(lines[begin:])
	if len(rows) == 0 {
		return
	}
	widths := columns(rows)
	format := ""
	for _, w := range widths {
		format += fmt.Sprintf("lw(%d) ", w)
	}
	fmt.Fprintf(out, ".TS\nallbox;\n%s\n%s.\n", format, format)
	for _, row := range rows {
		for i, cell := range row {
			if i > 0 {
				fmt.Fprint(out, "\t")
			}
			if width(cell) > widths[i] {
				cell = "T{\n.ad l\n" + breakable(cell, widths[i]) + "\nT}"
			}
			fmt.Fprint(out, cell)
		}
		fmt.Fprintln(out)
	}
	fmt.Fprintln(out, ".TE")
}

// cells are the rows of a table. A text block, T{ to T}, is one cell.
func cells(lines []string) (rows [][]string) {
	text := strings.Join(lines, "\n") + "\n"
	var row []string
	for text != "" {
		var cell string
		if block, ok := strings.CutPrefix(text, "T{\n"); ok {
			cell, text, _ = strings.Cut(block, "\nT}")
			cell = strings.Join(strings.Fields(cell), " ")
		} else {
			end := strings.IndexAny(text, "\t\n")
			cell, text = text[:end], text[end:]
		}
		row = append(row, cell)
		if text == "" || text[0] == '\n' {
			rows, row = append(rows, row), nil
		}
		text = text[min(1, len(text)):]
	}
	return rows
}

// columns shares the page among the columns: one that needs less than its share gets
// what it needs, the others share the rest by how much text they hold.
func columns(rows [][]string) []int {
	n := len(rows[0])
	widest, text := make([]int, n), make([]int, n)
	for _, row := range rows {
		for i, cell := range row[:min(n, len(row))] {
			widest[i] = max(widest[i], width(cell))
			text[i] += width(cell)
		}
	}
	widths := make([]int, n)
	left, open := pageWidth-between*(n-1)-2, n
	for settled := true; settled && open > 0; {
		settled = false
		for i := range n {
			if widths[i] == 0 && widest[i] <= max(left/open, 1) {
				widths[i] = max(widest[i], 1)
				left -= widths[i]
				open--
				settled = true
				break
			}
		}
	}
	sum := 0
	for i := range n {
		if widths[i] == 0 {
			sum += text[i]
		}
	}
	const least = 8
	for i := range n {
		if widths[i] == 0 {
			widths[i] = least + (left-least*open)*text[i]/sum
		}
	}
	return widths
}

// escape is what roff prints as one character, or not at all.
var (
	font   = regexp.MustCompile(`\\f(?:.|\[[^]]*\])`)
	escape = regexp.MustCompile(`\\(?:\[[^]]*\]|\(..|.)`)
)

// width is the number of columns that a cell takes.
func width(cell string) int {
	cell = strings.ReplaceAll(font.ReplaceAllString(cell, ""), `\&`, "")
	return utf8.RuneCountInString(escape.ReplaceAllString(cell, "x"))
}

// breakable breaks words that are wider than the column by a blank: behind punctuation,
// or where the column ends. What comes behind the blank has no place in the line before,
// so the blank is never seen. (mandoc breaks at nothing else.)
func breakable(cell string, most int) string {
	words := strings.Split(cell, " ")
	for i, w := range words {
		if width(w) > most {
			words[i] = strings.Join(chunks(parts(w, most), most), " ")
		}
	}
	return strings.Join(words, " ")
}

var character = regexp.MustCompile(`\\f(?:.|\[[^]]*\])|\\(?:\[[^]]*\]|\(..|.)|(?s:.)`)

// parts are what a word must not be broken in: up to punctuation, and no longer than most.
func parts(word string, most int) (found []string) {
	part := ""
	for _, c := range character.FindAllString(word, -1) {
		if width(part+c) > most {
			found, part = append(found, part), ""
		}
		part += c
		if width(c) > 0 && width(part) > 1 && strings.Contains("/._,=-:;)]}|", strings.TrimPrefix(c, `\`)) {
			found, part = append(found, part), ""
		}
	}
	return append(found, part)
}

// chunks joins parts to lines, each as full as it gets.
func chunks(parts []string, most int) (found []string) {
	line := ""
	for _, p := range parts {
		if width(line+p) > most {
			found, line = append(found, line), ""
		}
		line += p
	}
	return append(found, line)
}
