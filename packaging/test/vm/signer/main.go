// Signer answers the test kernel module's requests for quotes, with the keys of
// a simulated TD, and sets the module's registers at the start. It plays the
// host, the TDX module at boot and the quoting enclave of the test VM, and
// (signer published) the cloud that says what its machines measure as.
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/sim"
)

const (
	device = "/dev/cima_test_td"
	ccel   = "/sys/firmware/acpi/tables/data/CCEL"
)

// Data written to the device begins with one of these and a number, both
// little-endian u64 (module/cima_test_td.c).
const (
	setRegisters = 0
	answer       = 1
)

func main() {
	var err error
	switch {
	case len(os.Args) == 3 && os.Args[1] == "ccel":
		err = writeCCEL(os.Args[2])
	case len(os.Args) == 3 && os.Args[1] == "published":
		err = publish(os.Args[2])
	case len(os.Args) == 3 && os.Args[1] == "serve":
		err = serve(os.Args[2])
	default:
		err = errors.New("usage: signer ccel FILE | signer published FILE | signer serve ROOT-PEM")
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "signer: %v\n", err)
		os.Exit(1)
	}
}

// writeCCEL writes the boot log for QEMU to put into the VM's memory.
func writeCCEL(path string) error {
	machine, err := sim.Boot(sim.Config{})
	if err != nil {
		return err
	}
	log, err := machine.BootLog()
	if err != nil {
		return err
	}
	return os.WriteFile(path, log, 0o644)
}

// serve boots a simulated TD by the kernel's CCEL, and signs the registers that
// the module keeps.
func serve(rootPath string) error {
	if err := takeFirmwaresLog(); err != nil {
		return err
	}
	log, err := os.ReadFile(ccel)
	if err != nil {
		return err
	}
	machine, err := sim.Boot(sim.Config{BootLog: log})
	if err != nil {
		return err
	}
	if err := os.WriteFile(rootPath, machine.RootPEM(), 0o644); err != nil {
		return err
	}
	td, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer td.Close()
	booted := message(setRegisters, 0)
	first, err := machine.Registers(context.Background())
	if err != nil {
		return err
	}
	booted = append(booted, first.MRTD[:]...)
	for _, rtmr := range first.RTMR {
		booted = append(booted, rtmr[:]...)
	}
	if _, err := td.Write(booted); err != nil {
		return fmt.Errorf("set the registers: %w", err)
	}
	if _, err := sd.SdNotify(false, sd.SdNotifyReady); err != nil {
		return err
	}
	for {
		if err := sign(machine, td); err != nil {
			return err
		}
	}
}

// request is the data that the device returns: 8 bytes of number, the report
// data, MRTD and RTMR0–3 at the time of the request.
type request [8 + 64 + 5*48]byte

func sign(machine *sim.Machine, td *os.File) error {
	var r request
	if n, err := td.Read(r[:]); err != nil || n != len(r) {
		return fmt.Errorf("read a request: %d bytes: %w", n, err)
	}
	registers := hw.Registers{MRTD: hw.Digest(r[72:120])}
	for i := range registers.RTMR {
		registers.RTMR[i] = hw.Digest(r[72+48*(i+1):][:48])
	}
	quote, err := machine.Sign(registers, hw.ReportData(r[8:72]))
	if err != nil {
		return err
	}
	_, err = td.Write(append(message(answer, binary.LittleEndian.Uint64(r[:])), quote...))
	if err != nil {
		fmt.Fprintf(os.Stderr, "signer: no caller waits for this quote any more: %v\n", err)
	}
	return nil
}

func message(kind, number uint64) []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, kind), number)
}
