// Package sim answers: what would a TD say, where there is none?
//
// It is a TD in memory: it boots by replaying a boot log, extends its
// registers by the arithmetic of the hardware, and signs quotes with keys that
// it makes at boot. The keys chain to a root of its own that says NOT HARDWARE
// in every certificate, and that a verifier trusts only where it gets it in a
// file. The released cimad does not link this package.
package sim

import (
	"context"
	"crypto/rand"
	"crypto/sha512"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/logs/pcr"
)

// maxBootLog bounds a boot log given to Boot; real ones have up to 256 KiB.
const maxBootLog = 1 << 20

// Config is how a simulated TD boots. The zero value is a good one.
type Config struct {
	// Platform is hw.TEETDX, hw.TEESNP, hw.TEEAzureTDX or hw.TEEAzureSNP. Empty: hw.TEETDX.
	Platform string

	// BootLog is a CCEL to boot by, of a TD. Nil: a synthetic one.
	BootLog []byte

	// MRTD is what the firmware is to measure as. Zero: a fixed value that
	// is derived from this package's name.
	MRTD hw.Digest

	// Debug sets the debug bit of the TD's attributes.
	Debug bool

	// Migratable sets the attribute of that name; ServiceTD is what quotes of
	// version 5 say of the migration TD (MRSERVICETD).
	Migratable bool
	ServiceTD  hw.Digest

	// QuoteVersion is 4, or 5 for quotes with a TDX 1.5 body. Zero: 4.
	QuoteVersion int

	// QuoteDelay is how long a quote takes: 1 s with the kernel's own
	// driver, which polls once a second. One quote is made at a time.
	QuoteDelay time.Duration

	// RootFile is the path of a file with the root's key and certificate in
	// PEM, so that quotes verify under one root across boots. Boot makes the
	// file (mode 0600) where it is missing. Empty: a new root at each boot.
	RootFile string

	// Faults are in force from the beginning; see Machine.Inject.
	Faults []Fault
}

// Machine is a booted simulated TD. Its methods may be called at once from
// many goroutines. It satisfies hw.TEE.
type Machine struct {
	config  Config
	parts   hw.Parts
	keys    platform
	bootLog []byte
	bootID  string
	slot    chan struct{} // one quote at a time

	mu        sync.Mutex // protects registers
	registers state

	faults faults
}

var _ hw.TEE = (*Machine)(nil)

// Boot makes keys and replays the boot log. RTMR3 is zero afterwards.
func Boot(config Config) (*Machine, error) {
	switch config.QuoteVersion {
	case 0:
		config.QuoteVersion = 4
	case 4, 5:
	default:
		return nil, fmt.Errorf("a simulated TD signs quotes of version 4 or 5, not %d", config.QuoteVersion)
	}
	if len(config.BootLog) > maxBootLog {
		return nil, fmt.Errorf("boot log of %d bytes, more than %d", len(config.BootLog), maxBootLog)
	}
	if config.MRTD == (hw.Digest{}) {
		config.MRTD = sha512.Sum384([]byte("CIMA simulated TD, NOT HARDWARE: MRTD"))
	}
	parts, err := partsOf(config.Platform)
	if err != nil {
		return nil, err
	}
	if parts.BootLog != hw.BootLogCCEL && config.BootLog != nil {
		return nil, fmt.Errorf("platform %q boots by no CCEL: leave the boot log out", config.Platform)
	}
	keys, err := newPlatform(parts, config)
	if err != nil {
		return nil, fmt.Errorf("keys of the simulated TD: %w", err)
	}
	m := &Machine{
		config:    config,
		parts:     parts,
		keys:      keys,
		bootLog:   config.BootLog,
		bootID:    newUUID(),
		slot:      make(chan struct{}, 1),
		registers: state{Registers: hw.Registers{MRTD: config.MRTD}},
	}
	if err := m.boot(); err != nil {
		return nil, fmt.Errorf("boot log of the simulated TD: %w", err)
	}
	return m, m.Inject(config.Faults...)
}

// boot extends what the boot extends.
func (m *Machine) boot() error {
	switch m.parts.BootLog {
	case hw.BootLogNone:
		m.bootLog = []byte{}
		return nil
	case hw.BootLogTPM:
		m.bootLog, m.registers.banks = syntheticTPMLog()
		return nil
	}
	if m.bootLog == nil {
		m.bootLog = syntheticBootLog()
	}
	rtmr, err := boot.Replay(m.bootLog)
	if err != nil {
		return err
	}
	if rtmr[3] != ([48]byte{}) {
		return errors.New("it extends RTMR3, which belongs to the runtime log: give a log of the boot alone")
	}
	for i := range m.registers.RTMR {
		m.registers.RTMR[i] = rtmr[i]
	}
	return nil
}

// Parts are the platform's.
func (m *Machine) Parts() hw.Parts { return m.parts }

// Open takes a quote apart.
func (m *Machine) Open(quote []byte) (hw.Signed, error) { return open(m.parts, quote, pcr.Default) }

// Registers returns MRTD, RTMR0–3, and PCR 13 where there is a vTPM, as they are now.
func (m *Machine) Registers(ctx context.Context) (hw.Registers, error) {
	return m.readWith(ctx, pcr.Default)
}

// readWith is Registers with the PCR of this number, 0 to 23.
func (m *Machine) readWith(ctx context.Context, number int) (hw.Registers, error) {
	if err := m.faults.next(OpRegisters).before(ctx); err != nil {
		return hw.Registers{}, err
	}
	now := m.now()
	if m.parts.Anchor == logs.AnchorPCR {
		now.PCR = now.banks.value(number)
	}
	return now.Registers, nil
}

func (m *Machine) now() state {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.registers
}

func (m *Machine) read() hw.Registers { return m.now().Registers }

// Extend extends RTMR3, or PCR 13 where there is a vTPM.
func (m *Machine) Extend(ctx context.Context, digest hw.Digest) error {
	if m.parts.Anchor == logs.AnchorPCR {
		return m.extendPCR(ctx, pcr.Default, digest)
	}
	return m.ExtendRTMR(ctx, 3, digest)
}

// extendPCR extends a PCR of the vTPM in both banks, wholly or not at all.
func (m *Machine) extendPCR(ctx context.Context, number int, digest hw.Digest) error {
	if m.parts.Anchor != logs.AnchorPCR || pcr.May(number) != nil {
		return hw.NewError(hw.OpExtend, fmt.Sprintf("PCR %d", number), syscall.ENXIO)
	}
	fault := m.faults.next(OpExtend)
	if err := fault.before(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	m.registers.banks.set(number, m.registers.banks.value(number).Extend(digest))
	m.mu.Unlock()
	return fault.after(ctx)
}

// ExtendRTMR extends one of RTMR0–3 (Intel TDX Module ABI,
// TDG.MR.RTMR.EXTEND). IMA and systemd extend RTMR2 on some kernels. It happens
// wholly or not at all.
func (m *Machine) ExtendRTMR(ctx context.Context, index int, digest hw.Digest) error {
	if index < 0 || index > 3 || m.parts.Anchor != logs.AnchorRTMR3 {
		return hw.NewError(hw.OpExtend, fmt.Sprintf("RTMR%d", index), syscall.ENXIO)
	}
	fault := m.faults.next(OpExtend)
	if err := fault.before(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	m.registers.RTMR[index] = m.registers.RTMR[index].Extend(digest)
	m.mu.Unlock()
	return fault.after(ctx)
}

// Quote signs data and the registers, as they are when the quote begins. One
// quote is made at a time. Where ctx ends first, the error is ctx's, and the quote
// goes on, as in the kernel's driver.
func (m *Machine) Quote(ctx context.Context, data hw.ReportData) ([]byte, error) {
	select {
	case m.slot <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	registers := m.now()
	fault := m.faults.next(OpQuote)
	made := make(chan struct{})
	time.AfterFunc(m.config.QuoteDelay+fault.Delay, func() {
		if fault.Hang {
			<-fault.anew
		}
		<-m.slot
		close(made)
	})
	select {
	case <-made:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err := fault.err(); err != nil {
		return nil, err
	}
	return m.sign(registers, data)
}

// Sign signs a quote over the given registers, for a kernel module that has
// registers of its own (packaging/test/vm).
func (m *Machine) Sign(registers hw.Registers, data hw.ReportData) ([]byte, error) {
	return m.sign(state{Registers: registers}, data)
}

func (m *Machine) sign(now state, data hw.ReportData) ([]byte, error) {
	quote, err := m.keys.answer(now, data)
	if err != nil {
		return nil, fmt.Errorf("sign the quote of the simulated TD: %w", err)
	}
	return quote, nil
}

// BootLog returns the CCEL that the machine booted by, padding included.
func (m *Machine) BootLog() ([]byte, error) { return append([]byte(nil), m.bootLog...), nil }

// BootID returns a random UUID, as /proc/sys/kernel/random/boot_id gives one.
func (m *Machine) BootID() (string, error) { return m.bootID, nil }

// RootPEM returns the root's certificate in PEM. A verifier that trusts it trusts
// this machine.
func (m *Machine) RootPEM() []byte { return append([]byte(nil), m.keys.root()...) }

func newUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80 // RFC 9562, version 4
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
