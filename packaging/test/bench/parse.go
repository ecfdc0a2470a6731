package main

import (
	"context"
	"crypto/sha512"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-eventlog/register"
	"github.com/google/go-eventlog/tcg"

	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/logs/boot"
)

// parseLogs replays a boot log: ours compared with go-eventlog and with hashing
// alone, which is the lower bound. Each round makes as many replays as fit in
// it.
func parseLogs(ctx context.Context, p plan, into *part) error {
	raw, whose, err := p.bootLog()
	if err != nil {
		return err
	}
	registers, err := boot.Replay(raw)
	if err != nil {
		return err
	}
	parsed, err := boot.Parse(raw)
	if err != nil {
		return err
	}
	var digests [][48]byte
	for _, e := range parsed.UnverifiedEvents() {
		if _, extends := e.Extends(); extends {
			digests = append(digests, e.Digest)
		}
	}
	bank := register.RTMRBank{}
	for i := range registers {
		bank.RTMRs = append(bank.RTMRs, register.RTMR{Index: i, Digest: registers[i][:]})
	}
	work := []struct {
		as string
		do func() error
	}{
		{"hashing", func() error { extendAll(digests); return nil }},
		{"cima", func() error { _, err := boot.Replay(raw); return err }},
		{"go-eventlog", func() error {
			_, err := tcg.ParseAndReplay(raw, bank.MRs(), tcg.ParseOpts{AllowPadding: true})
			return err
		}},
	}
	into.Where = "this process alone"
	row := newRow(measurement{name: rowReplay, connections: 1})
	into.Notes = append(into.Notes, fmt.Sprintf("the boot log is %s: %d events, %d bytes; bare hashing is SHA-384 of as many extends", whose, parsed.Len(), len(raw)))
	for i := range p.rounds {
		for turn := range work {
			w := work[(turn+i)%len(work)]
			n, used, begun := 0, ownCPU(), time.Now()
			for ; time.Since(begun) < p.time/4; n++ {
				if err := w.do(); err != nil {
					return fmt.Errorf("%s: %w", w.as, err)
				}
			}
			took := time.Since(begun)
			each := took.Seconds() * 1e6 / float64(n)
			row.Results[w.as] = append(row.Results[w.as], result{
				Answers: n, Rate: float64(n) / took.Seconds(), P50: each, P99: each, CPU: (ownCPU() - used) / float64(n),
			})
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	into.Rows = append(into.Rows, row)
	say("%s", row.summary())
	return nil
}

// bootLog is the log that is replayed, and its source.
func (p plan) bootLog() (raw []byte, whose string, err error) {
	if p.ccel != "" {
		raw, err = os.ReadFile(p.ccel)
		return raw, "a real machine's, " + filepath.Base(p.ccel), err
	}
	machine, err := sim.Boot(sim.Config{})
	if err != nil {
		return nil, "", err
	}
	raw, err = machine.BootLog()
	return raw, "the simulated TD's", err
}

// extendAll is hashing alone. It returns its result so that the compiler leaves
// nothing out.
func extendAll(digests [][48]byte) (register [48]byte) {
	var both [96]byte
	for i := range digests {
		copy(both[:48], register[:])
		copy(both[48:], digests[i][:])
		register = sha512.Sum384(both[:])
	}
	return register
}
