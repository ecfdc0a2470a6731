package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// picture is what a text says.
type picture struct {
	title string
	desc  []string

	boxes  []box
	groups []group
	heads  []head
	arrows []arrow

	actors []actor
	acts   []act
}

// cell is a place on the grid: column and row, from 1.
type cell struct{ column, row int }

type box struct {
	name  string
	at    cell
	kind  string
	label []string
}

type group struct {
	from, to cell
	label    string
}

type head struct {
	column int
	label  string
}

type arrow struct {
	from, to string
	both     bool
	label    []string
}

type actor struct {
	name, kind string
	label      []string
}

// act is one thing that happens: from says something to another, or does it by itself.
type act struct {
	from, to string // to is "" for what from does by itself
	label    []string
}

// most is the most columns, rows or actors: wider pictures can't be read.
const most = 12

// read reads a text. It is ours: errors say the line.
func read(text string) (*picture, error) {
	p := &picture{}
	for i, line := range strings.Split(text, "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		if err := p.line(line); err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	return p, p.whole()
}

func (p *picture) line(line string) error {
	word, rest, _ := strings.Cut(line, " ")
	words := map[string]int{"title": 0, "desc": 0, "box": 4, "group": 4, "head": 1, "arrow": 2, "actor": 2, "say": 2, "note": 1}
	n, known := words[word]
	if !known {
		return fmt.Errorf("%q is no word of a picture", word)
	}
	f := strings.SplitN(rest, " ", n+1)
	if len(f) <= n || strings.TrimSpace(f[n]) == "" {
		return fmt.Errorf("%s must have %d words and a text", word, n)
	}
	f, last := f[:n], strings.TrimSpace(f[n])
	label := strings.Split(last, "|")
	var err error
	number := func(s string) int {
		v, bad := strconv.Atoi(s)
		if bad != nil || v < 1 || v > most {
			err = errors.Join(err, fmt.Errorf("%q must be a number from 1 to %d", s, most))
		}
		return v
	}
	switch word {
	case "title":
		p.title = last
	case "desc":
		p.desc = append(p.desc, last)
	case "box":
		p.boxes = append(p.boxes, box{f[0], cell{number(f[1]), number(f[2])}, f[3], label})
	case "group":
		p.groups = append(p.groups, group{cell{number(f[0]), number(f[1])}, cell{number(f[2]), number(f[3])}, last})
	case "head":
		p.heads = append(p.heads, head{number(f[0]), last})
	case "arrow":
		to, both := strings.CutPrefix(f[1], "<")
		p.arrows = append(p.arrows, arrow{f[0], to, both, label})
	case "actor":
		p.actors = append(p.actors, actor{f[0], f[1], label})
	case "say":
		p.acts = append(p.acts, act{f[0], f[1], label})
	case "note":
		p.acts = append(p.acts, act{from: f[0], label: label})
	}
	return err
}

// whole reports what a picture lacks.
func (p *picture) whole() error {
	kinds := map[string]bool{"plain": true, "ours": true, "result": true}
	names, cells := make(map[string]cell), make(map[cell]bool)
	for _, b := range p.boxes {
		if _, twice := names[b.name]; twice || cells[b.at] || !kinds[b.kind] {
			return fmt.Errorf("box %s must be there once, in a cell of its own, and plain, ours or result", b.name)
		}
		names[b.name], cells[b.at] = b.at, true
	}
	for _, a := range p.arrows {
		from, there := names[a.from]
		to, too := names[a.to]
		if !there || !too || (from.column == to.column) == (from.row == to.row) || abs(from.column-to.column)+abs(from.row-to.row) != 1 {
			return fmt.Errorf("arrow %s %s: it must be between two boxes that are next to each other", a.from, a.to)
		}
	}
	places := make(map[string]bool)
	for _, a := range p.actors {
		if places[a.name] || !kinds[a.kind] {
			return fmt.Errorf("actor %s must be there once, and plain, ours or result", a.name)
		}
		places[a.name] = true
	}
	for _, a := range p.acts {
		if !places[a.from] || a.to != "" && !places[a.to] || a.to == a.from {
			return fmt.Errorf("%s, %s: it must be between two actors", a.from, a.to)
		}
	}
	if p.title == "" || p.desc == nil || (len(p.boxes) == 0) == (len(p.actors) == 0) || len(p.actors) > most {
		return errors.New("a picture must have a title, a desc, and boxes or actors")
	}
	return nil
}

func abs(n int) int { return max(n, -n) }
