package config

import (
	"fmt"
	"strings"
	"testing"
)

func TestCheckPublic(t *testing.T) {
	many := make([]string, maxPublic+1)
	for i := range many {
		many[i] = fmt.Sprint("A", i)
	}
	for _, good := range [][]string{nil, {"API_URL", "a b", strings.Repeat("x", maxPublicName)}, many[:maxPublic]} {
		if said := saidOf((Launch{Public: good}).checkPublic); len(said) > 0 {
			t.Error(said)
		}
	}
	for _, bad := range [][]string{{""}, {"A=b"}, {"A", "B\x00"}, {strings.Repeat("x", maxPublicName+1)}, many} {
		if said := saidOf((Launch{Public: bad}).checkPublic); len(said) != 1 {
			t.Errorf("%.3q: %q", bad, said)
		}
	}
	if _, err := Parse("[launch]\npublic = [\"A=b\"]\n"); err == nil {
		t.Error("a configuration with such a name was accepted")
	}
}

// saidOf are the faults that a check notes.
func saidOf(check func(sayer)) (said []string) {
	check(func(_, format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) })
	return said
}
