package main

import (
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Each kind of harm is a fault, and a storm without harm has none.
func TestFaults(t *testing.T) {
	good := func() *result {
		done := outcome{Done: 5, P99: 300, EchoP99: 100}
		return &result{call: done, connect: done, execute: done, evidence: done, starts: map[string]int{"gated": 6}, messages: 20, took: time.Second}
	}
	p := plan{starts: 6, times: true}
	if faults := good().faults(p); len(faults) > 0 {
		t.Errorf("without harm: %q", faults)
	}
	for want, harm := range map[string]func(*result){
		"calls failed":        func(r *result) { r.call.Failed = 1 },
		"connects failed":     func(r *result) { r.connect.Failed = 1 },
		"executions failed":   func(r *result) { r.execute.Failed = 2 },
		"evidences failed":    func(r *result) { r.evidence = outcome{} },
		`1 starts were "obse`: func(r *result) { r.starts["observed"] = 1 },
		"messages in":         func(r *result) { r.messages = 1000 },
		"3.5 times":           func(r *result) { r.call.P99 = 350 },
	} {
		r := good()
		harm(r)
		if faults := r.faults(p); len(faults) != 1 || !strings.Contains(faults[0], want) {
			t.Errorf("%s: %q", want, faults)
		}
	}
}
