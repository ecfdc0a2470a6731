// Package imds answers: how is the host's service of an Azure VM asked?
//
// On Azure the host makes TDX quotes, and has the certificates of SNP reports. Both are
// asked for over HTTP at one address of the VM's own network. cimad opens no network: it asks
// a small service, the program cima-imds. Here is what both say to each other: on each
// connection one line with a request and one with its reply, both JSON. The answers prove nothing
// by themselves; the hardware's signature in them does.
package imds

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Socket is where cima-imds listens. Root alone may connect.
const Socket = "/run/cima-imds.sock"

// Bounds of a line, in bytes, and of a certificate chain.
const (
	maxLine         = 64 << 10
	maxCertificates = 8
)

// Request asks for one of two things.
type Request struct {
	Report       []byte `json:"report,omitempty"`       // a TDREPORT, 1024 bytes, that is to be quoted
	Certificates bool   `json:"certificates,omitempty"` // the certificates of this machine's SNP reports
}

// reportSize of a TDREPORT, in bytes.
const reportSize = 1024

// Check refuses a request that asks for neither or both.
func (r *Request) Check() error {
	if (len(r.Report) > 0) == r.Certificates || len(r.Report) > 0 && len(r.Report) != reportSize {
		return fmt.Errorf("a request must have a report of %d bytes, or ask for certificates", reportSize)
	}
	return nil
}

// Reply has one member.
type Reply struct {
	Quote        []byte   `json:"quote,omitempty"`        // a TDX quote
	Certificates [][]byte `json:"certificates,omitempty"` // DER: VCEK, intermediate, root
	Error        string   `json:"error,omitempty"`        // why there is no answer
}

// Read reads one line from a connection, at most 64 KiB, as JSON into a Request or a Reply.
func Read(from io.Reader, into any) error {
	line, err := bufio.NewReaderSize(io.LimitReader(from, maxLine), 4096).ReadBytes('\n')
	switch {
	case errors.Is(err, io.EOF) && len(line) == maxLine:
		return fmt.Errorf("a line must have at most %d bytes", maxLine)
	case errors.Is(err, io.EOF) && len(line) == 0:
		return errors.New("the connection ended without a line")
	case err != nil:
		return err
	}
	return json.Unmarshal(line, into, json.RejectUnknownMembers(true))
}

// Write writes one line.
func Write(to io.Writer, what any) error {
	line, err := json.Marshal(what)
	if err != nil {
		return err
	}
	_, err = to.Write(append(line, '\n'))
	return err
}

// Client asks the service behind a socket.
type Client struct{ Path string }

// Quote asks for a quote over a TDREPORT of 1024 bytes.
func (c Client) Quote(ctx context.Context, report []byte) ([]byte, error) {
	reply, err := c.ask(ctx, Request{Report: report})
	if err == nil && len(reply.Quote) == 0 {
		err = errors.New("the host's service gave no quote")
	}
	return reply.Quote, err
}

// Certificates asks for the certificates of this machine's SNP reports: DER, leaf first.
func (c Client) Certificates(ctx context.Context) ([][]byte, error) {
	reply, err := c.ask(ctx, Request{Certificates: true})
	switch {
	case err != nil:
	case len(reply.Certificates) == 0 || len(reply.Certificates) > maxCertificates:
		err = fmt.Errorf("the host's service gave %d certificates, must be 1 to %d", len(reply.Certificates), maxCertificates)
	}
	return reply.Certificates, err
}

func (c Client) ask(ctx context.Context, q Request) (reply Reply, err error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.Path)
	if err != nil {
		return reply, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	if err := Write(conn, q); err != nil {
		return reply, err
	}
	if err := Read(conn, &reply); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return Reply{}, err
	}
	if reply.Error != "" {
		return Reply{}, fmt.Errorf("the host's service: %s", printable(reply.Error))
	}
	return reply, nil
}

// printable bounds what the other side says, for the journal.
func printable(text string) string {
	clean := bytes.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, []byte(text))
	return string(clean[:min(len(clean), 300)])
}
