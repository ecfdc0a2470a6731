package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// The help of every command fits a screen of 80 columns and 40 lines, and has an
// example.
func TestHelpFitsAScreen(t *testing.T) {
	seen := 0
	var look func(c *cobra.Command)
	look = func(c *cobra.Command) {
		if c.Name() == "help" || c.Name() == "completion" {
			return // cobra's
		}
		for _, below := range c.Commands() {
			look(below)
		}
		seen++
		var out bytes.Buffer
		args := append(strings.Fields(c.CommandPath())[1:], "--help")
		if code := run(context.Background(), args, strings.NewReader(""), &out, &out); code != 0 {
			t.Errorf("%q ends with %d", args, code)
		}
		text := out.String()
		if n := strings.Count(text, "\n"); n > 40 {
			t.Errorf("%q has %d lines", args, n)
		}
		for line := range strings.Lines(text) {
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > 80 {
				t.Errorf("%q: %d columns: %s", args, n, line)
			}
		}
		if !strings.Contains(text, "Examples:\n  ") {
			t.Errorf("%q has no example", args)
		}
	}
	look(rootCommand())
	if seen < 19 {
		t.Errorf("only %d commands were looked at", seen)
	}
}
