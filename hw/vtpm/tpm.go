// Package vtpm answers: what does a TPM hold, and what does it sign?
//
// It speaks the few commands of a TPM 2.0 that CIMA needs (TPM 2.0 Library, part 3): read
// and extend PCRs, quote them, read an NV index and a key's public part. It is written by
// hand because a daemon that is measured should hold no more: go-tpm adds a third of a
// megabyte and reflects over every structure. All integers are big-endian. What the TPM
// answers is bounded, and each byte of it is accounted for. Which TPM may be trusted, the
// package does not know: one of the host's answers as well as one inside the TEE.
package vtpm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// maxResponse bounds a response, in bytes: TPM2_MAX_RESPONSE_SIZE of the kernel.
const maxResponse = 4096

// Responses that say "not now": the command was not begun.
const (
	rcYielded = 0x908
	rcTesting = 0x90a
	rcRetry   = 0x922
)

// errMalformed says that the TPM answered with bytes that can't be what was asked for.
var errMalformed = errors.New("malformed answer of the TPM")

// ResponseError is a command that the TPM refused.
type ResponseError struct {
	command string
	code    uint32 // TPM_RC (TPM 2.0 Library, part 2, section 6.6)
}

// Error names command and code.
func (e *ResponseError) Error() string {
	return fmt.Sprintf("TPM2_%s: the TPM refused with code %#x", e.command, e.code)
}

// Absent reports whether what the command named is not there: a handle, or an NV index
// without content.
func (e *ResponseError) Absent() bool {
	const handle, uninitialized = 0x8b, 0x14a
	return e.code&0xbf == handle || e.code == uninitialized
}

// TPM is a TPM behind one connection, which is opened when it is needed, and again after
// it failed. One command is under way at a time. Its methods may be called from many
// goroutines at once. Errors of refused commands are *ResponseError.
type TPM struct {
	open func() (io.ReadWriteCloser, error)
	turn chan struct{} // held during a command
	conn io.ReadWriteCloser
}

// New is a TPM whose connections open makes: of a device that takes a command in one write
// and gives its response, or of a socket that does. It opens nothing.
func New(open func() (io.ReadWriteCloser, error)) *TPM {
	return &TPM{open: open, turn: make(chan struct{}, 1)}
}

// Close closes the connection, after the command that is under way.
func (t *TPM) Close() error {
	t.turn <- struct{}{}
	defer func() { <-t.turn }()
	if t.conn == nil {
		return nil
	}
	err := t.conn.Close()
	t.conn = nil
	return err
}

// do executes a command and returns its parameters. A caller whose ctx ends stops
// waiting; the command goes on to its end, because nothing interrupts a TPM.
func (t *TPM) do(ctx context.Context, c *command) (*reader, error) {
	select {
	case t.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("TPM2_%s: gave up waiting for a turn: %w", c.name, ctx.Err())
	}
	type answer struct {
		params []byte
		err    error
	}
	answered := make(chan answer, 1)
	go func() {
		defer func() { <-t.turn }()
		params, err := t.retried(ctx, c)
		answered <- answer{params, err}
	}()
	select {
	case a := <-answered:
		return &reader{command: c.name, b: a.params}, a.err
	case <-ctx.Done():
		return nil, fmt.Errorf("TPM2_%s: abandoned while the TPM works: %w", c.name, ctx.Err())
	}
}

// retried sends a command again where the TPM did not begin it.
func (t *TPM) retried(ctx context.Context, c *command) (params []byte, err error) {
	const tries = 8
	for wait := 5 * time.Millisecond; ; wait *= 2 {
		params, err = t.exchange(c)
		refused, is := errors.AsType[*ResponseError](err)
		if !is || refused.code != rcRetry && refused.code != rcYielded && refused.code != rcTesting || wait >= 5*time.Millisecond<<tries {
			return params, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// exchange sends a command once. After a failure of the connection the next command opens
// another.
func (t *TPM) exchange(c *command) ([]byte, error) {
	if t.conn == nil {
		conn, err := t.open()
		if err != nil {
			return nil, err
		}
		t.conn = conn
	}
	response, err := t.transmit(c.bytes())
	if err != nil {
		t.conn.Close()
		t.conn = nil
		return nil, fmt.Errorf("TPM2_%s: %w", c.name, err)
	}
	return c.params(response)
}

func (t *TPM) transmit(request []byte) ([]byte, error) {
	if _, err := t.conn.Write(request); err != nil {
		return nil, err
	}
	response := make([]byte, 0, maxResponse)
	for len(response) < responseHeader || uint32(len(response)) < binary.BigEndian.Uint32(response[2:]) {
		n, err := t.conn.Read(response[len(response):cap(response)])
		response = response[:len(response)+n]
		switch {
		case err == nil && n > 0:
		case err == nil || errors.Is(err, io.EOF):
			return nil, fmt.Errorf("%w: it ends after %d bytes", errMalformed, len(response))
		default:
			return nil, err
		}
		if len(response) >= responseHeader && binary.BigEndian.Uint32(response[2:]) > maxResponse {
			return nil, fmt.Errorf("%w: it says that it has %d bytes, above %d", errMalformed, binary.BigEndian.Uint32(response[2:]), maxResponse)
		}
	}
	return response, nil
}
