package main

import (
	"fmt"
	"io"
)

// table is the results, in order.
type table struct {
	rows    []row
	failed  int
	missing int
}

type row struct{ result, what, how string }

// check adds a row: whether the result is the one that must come.
func (t *table) check(ok bool, what, how string, args ...any) {
	r := row{"shown", what, fmt.Sprintf(how, args...)}
	if !ok {
		r.result = "FAILED"
		t.failed++
	}
	t.rows = append(t.rows, r)
}

// skip adds a row for what this machine can't show.
func (t *table) skip(what, why string) {
	t.missing++
	t.rows = append(t.rows, row{"not shown", what, why})
}

func (t *table) print(w io.Writer) {
	fmt.Fprintln(w)
	for _, r := range t.rows {
		fmt.Fprintf(w, "%-9s  %s\n", r.result, r.what)
		if r.how != "" {
			fmt.Fprintf(w, "           %s\n", r.how)
		}
	}
	fmt.Fprintf(w, "\n%d shown, %d failed, %d not shown\n", len(t.rows)-t.failed-t.missing, t.failed, t.missing)
}
