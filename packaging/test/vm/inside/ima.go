package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cima-project/cima/logs/alg"
	"github.com/cima-project/cima/logs/ima"
)

const (
	imaDir = "/sys/kernel/security/integrity/ima/"
	tpm    = "/sys/class/tpm/tpm0/"

	earlyIMA = "/run/cima-vm-ima/" // ima-early
)

var banks = map[string]alg.ID{"sha1": alg.SHA1, "sha256": alg.SHA256, "sha384": alg.SHA384, "sha512": alg.SHA512}

// imaLogs replays every form of the kernel's log, and compares it with every
// bank of the TPM's PCR 10, which the kernel itself extended.
func imaLogs(ctx context.Context, w *world) error {
	var s *snapshot
	var err error
	for range 20 {
		if s, err = takeSnapshot(imaDir, tpm); err == nil {
			break // otherwise the log grew meanwhile
		}
	}
	if err != nil {
		return err
	}
	early, err := takeSnapshot(earlyIMA, earlyIMA)
	if err != nil {
		return err
	}
	if err := os.CopyFS(filepath.Join(w.out, "ima"), os.DirFS(earlyIMA)); err != nil {
		return err
	}
	w.note("%s entries, %d logs, %d banks; early in the boot %s", s.count, len(s.logs), len(s.pcr), early.count)
	return errors.Join(s.judge(), early.judge())
}

// snapshot is the logs and the PCR at one moment.
type snapshot struct {
	count string
	logs  map[string][]byte
	pcr   map[string]string // by bank, lower-case hex
}

// takeSnapshot reads the kernel's files of IMA and of the TPM, or copies of
// them.
func takeSnapshot(ima, tpm string) (*snapshot, error) {
	s := &snapshot{logs: map[string][]byte{}, pcr: map[string]string{}}
	before, err := os.ReadFile(ima + "runtime_measurements_count")
	if err != nil {
		return nil, err
	}
	s.count = strings.TrimSpace(string(before))
	names, _ := filepath.Glob(ima + "*_runtime_measurements*")
	for _, path := range names {
		if s.logs[filepath.Base(path)], err = os.ReadFile(path); err != nil {
			return nil, err
		}
	}
	for bank := range banks {
		text, err := os.ReadFile(tpm + "pcr-" + bank + "/10")
		if err != nil {
			return nil, err
		}
		s.pcr[bank] = strings.ToLower(strings.TrimSpace(string(text)))
	}
	after, err := os.ReadFile(ima + "runtime_measurements_count")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(before, after) || len(names) < 2 {
		return nil, fmt.Errorf("%d logs, which grew from %s to %s entries while they were read", len(names), before, after)
	}
	return s, nil
}

// judge parses and replays each log.
func (s *snapshot) judge() error {
	for name, log := range s.logs {
		r := ima.NewReader(bytes.NewReader(log))
		r.Check = true
		registers := map[string]*ima.Register{}
		var list []*ima.Register
		for bank := range s.pcr {
			registers[bank] = ima.NewPCR(banks[bank], 10)
			list = append(list, registers[bank])
		}
		if err := r.Replay(list...); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if r.Skipped != 0 || r.Mismatched != 0 || r.Unchecked != 0 || fmt.Sprint(r.Entries) != s.count {
			return fmt.Errorf("%s: %d of %s entries, %d skipped (%w), %d mismatched, %d unchecked",
				name, r.Entries, s.count, r.Skipped, r.LastSkip(), r.Mismatched, r.Unchecked)
		}
		for bank, want := range s.pcr {
			if got := hex.EncodeToString(registers[bank].Value()); got != want {
				return fmt.Errorf("%s replays to %s for PCR 10 of bank %s, the TPM has %s", name, got, bank, want)
			}
		}
	}
	return nil
}
