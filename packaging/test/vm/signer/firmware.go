package main

import (
	"context"
	"encoding/json/v2"
	"errors"
	"os"
	"syscall"

	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/packaging/test/tpmlog"
)

const (
	byFirmware = "/opt/vm/reference" // the VM was booted by firmware that measures
	tpmLog     = "/sys/kernel/security/tpm0/binary_bios_measurements"
	madeCCEL   = "/run/cima-vm-ccel"
)

// takeFirmwaresLog puts the log of this boot in the place of the CCEL: RTMR0
// is that of the simulated TD's machine, and RTMR1 and RTMR2 are what firmware
// and kernel measured into the TPM, by the code that measures in a TD. Without
// such firmware the CCEL stays.
func takeFirmwaresLog() error {
	if _, err := os.Stat(byFirmware); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	raw, err := os.ReadFile(tpmLog)
	if err != nil {
		return err
	}
	measured, _, err := tpmlog.AsTD(raw)
	if err != nil {
		return err
	}
	machine, err := sim.Boot(sim.Config{})
	if err != nil {
		return err
	}
	own, err := machine.BootLog()
	if err != nil {
		return err
	}
	var events []boot.Event
	for _, part := range []struct {
		log  []byte
		mine func(mr uint32) bool
	}{{own, func(mr uint32) bool { return mr <= 1 }}, {measured, func(mr uint32) bool { return mr > 1 }}} {
		log, err := boot.Parse(part.log)
		if err != nil {
			return err
		}
		for _, e := range log.UnverifiedEvents() {
			if part.mine(uint32(e.MR)) && e.Type != boot.EvNoAction {
				events = append(events, e)
			}
		}
	}
	if err := os.WriteFile(madeCCEL, boot.Encode(events), 0o400); err != nil {
		return err
	}
	return syscall.Mount(madeCCEL, ccel, "", syscall.MS_BIND, "")
}

// publish writes what a cloud would publish of its machines: MRTD and RTMR0
// (cima-reference-values(7)).
func publish(path string) error {
	machine, err := sim.Boot(sim.Config{})
	if err != nil {
		return err
	}
	first, err := machine.Registers(context.Background())
	if err != nil {
		return err
	}
	text, err := json.Marshal(map[string]any{
		"publisher": "the cloud of the test",
		"hardware":  map[string]any{"vm": map[string]any{"mrtd": []string{first.MRTD.String()}, "rtmr0": first.RTMR[0].String()}},
		"code":      map[string]any{},
	})
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}
