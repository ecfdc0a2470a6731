package main

import (
	"fmt"
	"iter"
	"maps"
)

// Rows that targets refer to.
const (
	rowOne     = "GetCCMeasurement, 1 connection"
	row64      = "GetCCMeasurement, 64 connections"
	rowConnect = "connect, GetCCMeasurement, close"
	rowScale   = "GetCCMeasurement, 1 connection, by what is held"
	rowReplay  = "boot log, parsed and replayed"
)

func rowLog(events int) string { return fmt.Sprintf("event log of %d events, end to end", events) }

// target is a goal (issues 3 and 12): one ratio, the median over rounds.
type target struct {
	row, as, to string
	of          func(result) float64
	rates       bool    // the ratio is of rates
	least, most float64 // 0: no bound
	words       string
}

var targets = []target{
	{row: rowOne, as: "cima", to: "raw", of: rate, rates: true, least: 0.33, words: "of raw"},
	{row: row64, as: "cima", to: "raw", of: rate, rates: true, least: 0.30, words: "of raw"},
	{row: rowConnect, as: "raw", to: "cima", of: rate, rates: true, most: 3, words: "times raw's time"},
	{row: rowOne, as: "cima", to: "gRPC", of: rate, rates: true, least: 1.8, words: "times gRPC with its own client"},
	{row: row64, as: "cima", to: "gRPC", of: rate, rates: true, least: 1.8, words: "times gRPC with its own client"},
	{row: rowOne, as: "cima, Go client", to: "gRPC", of: rate, rates: true, words: "times gRPC, both with their Go clients"},
	{row: row64, as: "cima, Go client", to: "gRPC", of: rate, rates: true, words: "times gRPC, both with their Go clients"},
	{row: row64, as: "cima", to: "raw", of: p99, most: 10, words: "times raw's p99"},
	{row: rowLog(10_000), as: "cima, Go client", to: "gRPC", of: rate, rates: true, least: 1.5, words: "times gRPC, both decoded by their Go clients"},
	{row: rowLog(10_000), as: "cima", to: "gRPC", of: rate, rates: true, words: "times gRPC, our lines not decoded"},
	{row: rowScale, as: "large", to: "small", of: serve, least: 0.85, most: 1.15, words: "times the daemon's CPU time with 100 events"},
	{row: rowReplay, as: "cima", to: "go-eventlog", of: rate, rates: true, words: "times go-eventlog"},
	{row: rowReplay, as: "hashing", to: "cima", of: rate, rates: true, words: "times hashing alone"},
}

// maxLarge is the largest resident memory of the largest daemon, in KiB.
const maxLarge = 256 << 10

type verdict struct {
	met  bool
	text string
}

func (v verdict) String() string { return v.text }

// verdicts describe which targets were met, of those that were measured.
func (r report) verdicts() (all []verdict) {
	for _, t := range targets {
		row := r.row(t.row)
		if row == nil {
			continue
		}
		v := row.ratios(t.as, t.to, t.of)
		m := quartile(v, 2)
		met := (t.least == 0 || m >= t.least) && (t.most == 0 || m < t.most)
		word, wanted := "met", ""
		if t.rates && row.median(t.to, both) > 0 {
			wanted = fmt.Sprintf(" (by CPU %.3f)", row.byCPU(t.as, t.to))
		}
		if !met {
			word = "NOT met"
		}
		switch {
		case t.least != 0 && t.most != 0:
			wanted += fmt.Sprintf(", target %.2f to %.2f", t.least, t.most)
		case t.least != 0:
			wanted += fmt.Sprintf(", target at least %.2f", t.least)
		case t.most != 0:
			wanted += fmt.Sprintf(", target under %.0f", t.most)
		default:
			word = "shown"
		}
		all = append(all, verdict{met, fmt.Sprintf("%s: %s: %s: %s %s%s", word, t.row, t.as, spread(v), t.words, wanted)})
	}
	if p := r.Parts["scale"]; p != nil {
		m, word := p.Memory["large"], "met"
		if m.Peak >= maxLarge {
			word = "NOT met"
		}
		all = append(all, verdict{m.Peak < maxLarge, fmt.Sprintf("%s: memory of the daemon that holds most: %d MiB, at most %d MiB, target under %d", word, m.Now>>10, m.Peak>>10, maxLarge>>10)})
	}
	return all
}

func (r report) met() bool {
	for _, v := range r.verdicts() {
		if !v.met {
			return false
		}
	}
	return true
}

func keys[V any](m map[string]V) iter.Seq[string] { return maps.Keys(m) }
