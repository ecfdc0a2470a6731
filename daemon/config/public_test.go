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
		if err := (Launch{Public: good}).checkPublic(); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range [][]string{{""}, {"A=b"}, {"A", "B\x00"}, {strings.Repeat("x", maxPublicName+1)}, many} {
		if err := (Launch{Public: bad}).checkPublic(); err == nil {
			t.Errorf("%.3q was accepted", bad)
		}
	}
	if _, err := Parse("[launch]\npublic = [\"A=b\"]\n"); err == nil {
		t.Error("a configuration with such a name was accepted")
	}
}
