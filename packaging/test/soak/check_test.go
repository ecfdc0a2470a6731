package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// Violations are detected.
func TestViolationsAreFound(t *testing.T) {
	for name, tt := range map[string]struct {
		found map[string]int
		want  string
	}{
		"all is well": {map[string]int{"acked": 1}, ""},
		"and later":   {map[string]int{"acked": 1, "unknown": 1}, ""},
		"lost":        {map[string]int{"unknown": 1}, "0 times"},
		"twice":       {map[string]int{"acked": 2}, "2 times"},
		"refused":     {map[string]int{"acked": 1, "refused": 1}, "was refused"},
		"another's":   {map[string]int{"acked": 1, "x": 1}, "never requested"},
	} {
		b := &boot{tally: newTally()}
		c := b.newContainer("c")
		c.acknowledged["acked"], c.unknown["unknown"], c.refused["refused"] = true, true, true
		c.compare("the log", tt.found)
		got := strings.Join(b.tally.wrong, "; ")
		if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q", name, got)
		}
	}
	b := &boot{tally: newTally(), manager: &manager{}}
	c := b.newContainer("c")
	c.appraise([]byte(`{}`), newNonce())
	c.refusedWith(order{Do: doEvidence}, outcome{Code: rpc.CodeLogInconsistent})
	c.refusedWith(order{Do: doEvidence}, outcome{Code: rpc.CodeNotReady})
	if b.tally.violations() == 0 || len(b.tally.wrong) != 2 {
		t.Errorf("%q", b.tally.wrong)
	}
}

func TestANoughtIsFound(t *testing.T) {
	a := newTally()
	for _, what := range []string{"evidences verified", "reports verified", "event logs replayed", "extends acknowledged", "events: exit"} {
		a.count(what)
	}
	if a.sawAll(time.Second); a.violations() != 0 {
		t.Errorf("%q", a.wrong)
	}
	if a.sawAll(time.Hour); a.violations() != 4 {
		t.Errorf("%q", a.wrong)
	}
}

// A log that was changed, or that has an event twice, is detected.
func TestLogIsRead(t *testing.T) {
	var register hw.Digest
	var lines []string
	add := func(operation, id, instance, measured string) {
		e, err := logs.NewEvent(operation, logs.Content{Container: id, Measured: json.RawMessage(measured), Salt: map[bool]string{true: "AAAAAAAAAAAAAAAAAAAAAA=="}[id != ""]})
		if err != nil {
			t.Fatal(err)
		}
		before := register
		register = register.Extend(hw.Digest(e.Digest()))
		line, _ := json.Marshal(map[string]any{"before": before.String(), "after": register.String(), "instance": instance, "event": e.Bytes()})
		lines = append(lines, string(line))
	}
	add(logs.OpStart, "", "", `{"start":{"agent_key":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}}`)
	add(logs.OpLaunch, "c", "1", `{"launch":{}}`)
	add(logs.OpExtend, "c", "1", `{"extend":{"content":"x"}}`)
	add(logs.OpLaunch, "c", "1", `{"launch":{}}`)
	path := filepath.Join(t.TempDir(), "log")
	write := func(lines []string) {
		if err := os.WriteFile(path, []byte("{\"cima\":1}\n"+strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(lines)
	l, err := readLog(path)
	if err != nil {
		t.Fatal(err)
	}
	if l.events != 4 || l.register != register || l.once["launch of c 1"] != 2 || l.extends["c"]["x"] != 1 || !l.launched["c"] || l.exited["c"] || len(l.keys) != 1 || !l.keys[string(make([]byte, 32))] {
		t.Errorf("%+v", l)
	}
	write(append(lines[:1:1], lines[2:]...))
	if _, err := readLog(path); err == nil {
		t.Error("a log that lacks an event was accepted")
	}
}
