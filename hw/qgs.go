//go:build linux

package hw

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/mdlayher/vsock"
)

// The host's quote generation service (QGS), by vsock. A message is its length
// (u32, big-endian), then a header (major and minor version u16, type, size
// and error code u32, little-endian) and a body (Intel DCAP, qgs_msg_lib.h).
const (
	qgsHeader   = 16
	qgsMajor    = 1
	qgsGetQuote = 0
	qgsQuote    = 1
	qgsMax      = qgsHeader + 8 + 1024 + maxQuote // id, quote

	hostCID = 2 // vsock(7), VMADDR_CID_HOST
)

// errNoQGS says that no service answers.
var errNoQGS = errors.New("no quote generation service answers")

func dialVsock(ctx context.Context, port uint32) (net.Conn, error) {
	return vsock.DialContext(ctx, hostCID, port, nil)
}

func qgsPlace(port uint32) string { return fmt.Sprintf("vsock:%d:%d", hostCID, port) }

// attestConf is what /etc/tdx-attest.conf says.
type attestConf struct {
	port   uint32   // 0: quotes don't come by vsock
	passed []string // what is no setting, with its line
}

// qgsConf reads /etc/tdx-attest.conf; without the file no port is configured.
func (t *TDX) qgsConf() (attestConf, error) {
	text, err := t.files.Read(t.attestConf(), 64<<10)
	if errors.Is(err, syscall.ENOENT) {
		return attestConf{}, nil
	}
	if err != nil {
		return attestConf{}, NewError(OpQuote, t.attestConf(), err)
	}
	return parseAttestConf(string(text)), nil
}

// portLine is a setting of the port. The number has at most ten digits, and nothing but
// white space may follow it.
var portLine = regexp.MustCompile(`^\s*port\s*=\s*([0-9]{1,10})\s*$`)

// parseAttestConf reads as Intel's libtdx_attest does: the first line that sets the port
// decides, and 0 or a number that no port can have stands for none. All other lines mean
// nothing there, and nothing here; those that are no comment are told.
func parseAttestConf(text string) (c attestConf) {
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		set := portLine.FindStringSubmatch(line)
		if set == nil {
			if len(c.passed) < maxPassed {
				c.passed = append(c.passed, fmt.Sprintf("line %d, %.40q, is not port = NUMBER", n, line))
			}
			continue
		}
		port, err := strconv.ParseUint(set[1], 10, 32)
		if err != nil && len(c.passed) < maxPassed {
			c.passed = append(c.passed, fmt.Sprintf("line %d: no port is %s, so none is used", n, set[1]))
		}
		if err == nil {
			c.port = uint32(port)
		}
		return c
	}
	return c
}

// maxPassed bounds the lines that are told.
const maxPassed = 3

// quoteQGS makes a quote over data: a TDREPORT from the device, which the host's
// service turns into a quote. Many can be made at once, and ctx may end each at
// any moment.
func (t *TDX) quoteQGS(ctx context.Context, port uint32, data ReportData) ([]byte, error) {
	place := qgsPlace(port)
	report, err := t.report(data)
	if err != nil {
		return nil, err
	}
	conn, err := t.dial(ctx, port)
	if err != nil {
		if ctx.Err() == nil {
			err = fmt.Errorf("%w: %w", errNoQGS, err)
		}
		return nil, NewError(OpQuote, place, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	quote, err := askQGS(conn, report)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, NewError(OpQuote, place, err)
	}
	return quote, nil
}

// askQGS sends one request and reads its answer.
func askQGS(conn io.ReadWriter, report []byte) ([]byte, error) {
	const size = qgsHeader + 8 + reportSize
	b := binary.BigEndian.AppendUint32(nil, size)
	b = binary.LittleEndian.AppendUint16(b, qgsMajor)
	b = binary.LittleEndian.AppendUint16(b, 0)
	b = binary.LittleEndian.AppendUint32(b, qgsGetQuote)
	b = binary.LittleEndian.AppendUint32(b, size)
	b = binary.LittleEndian.AppendUint32(b, 0) // error code
	b = binary.LittleEndian.AppendUint32(b, uint32(len(report)))
	b = binary.LittleEndian.AppendUint32(b, 0) // no list of ids
	if _, err := conn.Write(append(b, report...)); err != nil {
		return nil, err
	}
	in := bufio.NewReader(conn)
	var length [4]byte
	if _, err := io.ReadFull(in, length[:]); err != nil {
		return nil, hungUp(err)
	}
	n := binary.BigEndian.Uint32(length[:])
	if n < qgsHeader || n > qgsMax {
		return nil, fmt.Errorf("%w: QGS announces a message of %d bytes", ErrMalformed, n)
	}
	message := make([]byte, n)
	if _, err := io.ReadFull(in, message); err != nil {
		return nil, hungUp(err)
	}
	return parseQGS(message)
}

func hungUp(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: QGS hung up before its answer was complete", syscall.ECONNRESET)
	}
	return err
}

// parseQGS reads a GET_QUOTE_RESP, without the length before it.
func parseQGS(message []byte) ([]byte, error) {
	if len(message) < qgsHeader {
		return nil, fmt.Errorf("%w: QGS message of %d bytes", ErrMalformed, len(message))
	}
	major, kind := binary.LittleEndian.Uint16(message), binary.LittleEndian.Uint32(message[4:])
	size, code := binary.LittleEndian.Uint32(message[8:]), binary.LittleEndian.Uint32(message[12:])
	switch {
	case major != qgsMajor:
		return nil, fmt.Errorf("%w: QGS message of version %d, not %d", ErrMalformed, major, qgsMajor)
	case kind != qgsQuote:
		return nil, fmt.Errorf("%w: QGS message of type %d, not a quote", ErrMalformed, kind)
	case uint64(size) != uint64(len(message)):
		return nil, fmt.Errorf("%w: QGS message has %d bytes, and its length field has %d", ErrMalformed, len(message), size)
	case code != 0:
		return nil, &QGSError{code}
	case len(message) < qgsHeader+8:
		return nil, fmt.Errorf("%w: QGS answer of %d bytes has no sizes", ErrMalformed, len(message))
	}
	id := uint64(binary.LittleEndian.Uint32(message[16:]))
	quote := uint64(binary.LittleEndian.Uint32(message[20:]))
	rest := message[qgsHeader+8:]
	if quote == 0 || id+quote != uint64(len(rest)) {
		return nil, fmt.Errorf("%w: QGS answer with an id of %d and a quote of %d bytes in %d", ErrMalformed, id, quote, len(rest))
	}
	return rest[id:], nil
}

// QGSError is an error code of the host's service (qgs_msg_lib.h).
type QGSError struct{ Code uint32 }

// Error is the code, and what the header calls it.
func (e *QGSError) Error() string {
	const first = 0x12001
	meanings := [...]string{"unexpected error", "out of memory", "invalid parameter", "unknown version", "invalid type", "invalid size", "invalid code"}
	if i := e.Code - first; i < uint32(len(meanings)) {
		return fmt.Sprintf("QGS error %#x: %s", e.Code, meanings[i])
	}
	return fmt.Sprintf("QGS error %#x", e.Code)
}
