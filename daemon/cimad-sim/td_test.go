package main

import (
	"bytes"
	"strings"
	"testing"
)

// An error in the flags is one line, without a page of help.
func TestWrongUse(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"--nosuch"}, "cimad-sim td: flag provided but not defined: -nosuch\nhint: "},
		{nil, "cimad-sim td: --dir DIR is needed, and nothing behind the flags\nhint: "},
		{[]string{"--dir", "x", "y"}, "cimad-sim td: --dir DIR is needed, and nothing behind the flags\nhint: "},
	} {
		var out, errs bytes.Buffer
		if code := runTD(test.args, &out, &errs); code != 2 || !strings.HasPrefix(errs.String(), test.want) || strings.Count(errs.String(), "\n") != 2 || out.Len() > 0 {
			t.Errorf("%q: exit %d, %q, %q", test.args, code, &out, &errs)
		}
	}
	var out, errs bytes.Buffer
	if code := runTD([]string{"--help"}, &out, &errs); code != 0 || !strings.Contains(out.String(), "-quote-delay") || errs.Len() > 0 {
		t.Errorf("help: exit %d, %q, %q", code, &out, &errs)
	}
}
