package sim

import (
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/pcr"
)

// TD is a simulated TD in another process, behind a socket. Each call has a
// connection of its own. It satisfies hw.TEE; its errors are *hw.Error.
type TD struct {
	path  string
	parts hw.Parts
	pcr   int // that holds the log where a vTPM does
}

var _ hw.TEE = (*TD)(nil)

// Dial finds the simulated TD behind the socket at path, which Listen made. The
// socket must have mode 0600, in a directory as Listen wants it.
func Dial(path string) (*TD, error) {
	if err := checkDir(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("simulated TD: %w", err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		return nil, fmt.Errorf("simulated TD: %w; start one with cimad-sim td", err)
	}
	if info.Mode().Type() != os.ModeSocket || info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("simulated TD: %s must be a socket of mode 0600", path)
	}
	td := &TD{path: path, parts: hw.TDXParts(), pcr: pcr.Default}
	if _, err := td.BootID(); err != nil {
		return nil, err
	}
	// One of an older release knows no such question: it is a TD.
	if r, err := td.ask(opPlatform); err == nil {
		if td.parts, err = partsOf(string(r.Bytes)); err != nil {
			return nil, err
		}
	}
	return td, nil
}

// LogIn says that this PCR, 0 to 15, holds the log where a vTPM does. Without it PCR 13 does.
func (td *TD) LogIn(number int) { td.pcr = number }

// Quote is as Machine.Quote.
func (td *TD) Quote(ctx context.Context, data hw.ReportData) ([]byte, error) {
	r, err := td.call(ctx, request{Op: hw.OpQuote, Data: data[:]})
	if err != nil {
		return nil, err
	}
	return r.Bytes, nil
}

// Parts is as Machine.Parts.
func (td *TD) Parts() hw.Parts { return td.parts }

// Open is as Machine.Open.
func (td *TD) Open(quote []byte) (hw.Signed, error) { return open(td.parts, quote, td.pcr) }

// Registers is as Machine.Registers.
func (td *TD) Registers(ctx context.Context) (registers hw.Registers, err error) {
	index, size := 0, 5*48
	if td.parts.Anchor == logs.AnchorPCR {
		index, size = td.pcr, 5*48+32+48
	}
	r, err := td.call(ctx, request{Op: hw.OpRegisters, Index: index})
	if err != nil {
		return registers, err
	}
	if len(r.Bytes) != size {
		return registers, hw.NewError(hw.OpRegisters, td.path, fmt.Errorf("%w: %d bytes of registers", hw.ErrMalformed, len(r.Bytes)))
	}
	registers.MRTD = hw.Digest(r.Bytes[:48])
	for i := range registers.RTMR {
		registers.RTMR[i] = hw.Digest(r.Bytes[48*(i+1) : 48*(i+2)])
	}
	if size > 5*48 {
		registers.PCR = pcr.Value{}.WithSHA256([32]byte(r.Bytes[5*48:])).WithSHA384([48]byte(r.Bytes[5*48+32:]))
	}
	return registers, nil
}

// Extend is as Machine.Extend. An error does not say that nothing happened:
// read the register.
func (td *TD) Extend(ctx context.Context, digest hw.Digest) error {
	if td.parts.Anchor == logs.AnchorPCR {
		return td.extendRegister(ctx, td.pcr, digest)
	}
	return td.extendRegister(ctx, 3, digest)
}

// extendRegister is as Machine.ExtendRTMR, or extends a PCR where there is a vTPM.
func (td *TD) extendRegister(ctx context.Context, index int, digest hw.Digest) error {
	_, err := td.call(ctx, request{Op: hw.OpExtend, Index: index, Data: digest[:]})
	return err
}

// BootLog is as Machine.BootLog.
func (td *TD) BootLog() ([]byte, error) {
	r, err := td.ask(hw.OpBootLog)
	return r.Bytes, err
}

// BootID is as Machine.BootID.
func (td *TD) BootID() (string, error) {
	r, err := td.ask(hw.OpBootID)
	return string(r.Bytes), err
}

// rootPEM is as Machine.RootPEM.
func (td *TD) rootPEM() ([]byte, error) {
	r, err := td.ask(opRoot)
	return r.Bytes, err
}

// Inject is as Machine.Inject.
func (td *TD) Inject(ctx context.Context, list ...Fault) error {
	_, err := td.call(ctx, request{Op: opFaults, Faults: list})
	return err
}

func (td *TD) ask(op string) (reply, error) {
	ctx, cancel := context.WithTimeout(context.Background(), lineTimeout)
	defer cancel()
	return td.call(ctx, request{Op: op})
}

// call makes one call on a connection of its own.
func (td *TD) call(ctx context.Context, q request) (reply, error) {
	r, err := td.roundTrip(ctx, q)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		e := hw.NewError(q.Op, td.path, err)
		e.Advice = "see whether cimad-sim td is still running"
		return reply{}, e
	}
	switch {
	case r.Errno != 0:
		return reply{}, hw.NewError(q.Op, td.path, r.Errno)
	case r.Malformed:
		return reply{}, hw.NewError(q.Op, td.path, fmt.Errorf("%w (%s)", hw.ErrMalformed, r.Error))
	case r.Error != "":
		return reply{}, hw.NewError(q.Op, td.path, errors.New(r.Error))
	}
	return r, nil
}

func (td *TD) roundTrip(ctx context.Context, q request) (r reply, err error) {
	line, err := json.Marshal(q, protocol)
	if err != nil {
		return r, err
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", td.path)
	if err != nil {
		return r, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := conn.Write(append(line, '\n')); err != nil {
		return r, err
	}
	err = readLine(conn, maxReply, &r)
	if errors.Is(err, io.EOF) {
		err = syscall.ECONNRESET
	}
	return r, err
}
