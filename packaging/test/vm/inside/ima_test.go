package main

import "testing"

// The log of a real boot, copied out of the VM by make test-vm, and the PCR 10
// that its TPM had at that moment.
const keptIMA = "../../../../logs/ima/testdata/ima-debian13/"

func TestIMALogOfABoot(t *testing.T) {
	s, err := takeSnapshot(keptIMA, keptIMA)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.logs) != 4 || len(s.pcr) != 4 {
		t.Fatalf("%d logs and %d banks, must be 4 and 4", len(s.logs), len(s.pcr))
	}
	if err := s.judge(); err != nil {
		t.Error(err)
	}
}

// The check of the VM's logs must not accept everything.
func TestJudgeFindsChanges(t *testing.T) {
	for name, change := range map[string]func(*snapshot){
		"a PCR":        func(s *snapshot) { s.pcr["sha384"] = s.pcr["sha384"][1:] + "0" },
		"an entry":     func(s *snapshot) { flip(s, "ascii_runtime_measurements", 60) },
		"a binary one": func(s *snapshot) { flip(s, "binary_runtime_measurements", 60) },
		"the count":    func(s *snapshot) { s.count = "1" },
		"a line": func(s *snapshot) {
			s.logs["ascii_runtime_measurements"] = append(s.logs["ascii_runtime_measurements"], "x y\n"...)
		},
	} {
		s, err := takeSnapshot(keptIMA, keptIMA)
		if err != nil {
			t.Fatal(err)
		}
		change(s)
		if s.judge() == nil {
			t.Errorf("%s was changed, and the check did not notice", name)
		}
	}
}

// flip changes a digit of a template hash, or a byte.
func flip(s *snapshot, log string, at int) {
	if b := &s.logs[log][at]; *b == '0' {
		*b = '1'
	} else {
		*b = '0'
	}
}
