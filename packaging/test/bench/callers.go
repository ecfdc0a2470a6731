package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/cima-project/cima/packaging/test/bench/cima05"
	"github.com/cima-project/cima/rpc"
)

// caller is one connection to a server that makes one kind of request.
type caller interface {
	open() error
	once() (records int, err error)
	close()
}

func newCaller(o order) (caller, error) {
	switch o.Kind {
	case "line":
		return &lineCaller{path: o.Path, request: []byte(o.Request + "\n"), answer: []byte(o.Answer), in: bufio.NewReaderSize(nil, 64<<10)}, nil
	case "log":
		return &logCaller{lineCaller{path: o.Path, answer: []byte(o.Answer), in: bufio.NewReaderSize(nil, 64<<10)}}, nil
	case "go", "golog":
		return &goCaller{order: o}, nil
	case "grpc", "grpclog":
		return &grpcCaller{order: o}, nil
	}
	return nil, fmt.Errorf("unknown kind of caller: %q", o.Kind)
}

// lineCaller writes prepared bytes and reads a line.
type lineCaller struct {
	path            string
	request, answer []byte
	nc              net.Conn
	in              *bufio.Reader
	tail            []byte // the end of the last line read
}

func (c *lineCaller) open() error {
	nc, err := net.Dial("unix", c.path)
	if err != nil {
		return err
	}
	c.nc = nc
	c.in.Reset(nc)
	return nil
}

func (c *lineCaller) close() {
	if c.nc != nil {
		c.nc.Close()
	}
}

func (c *lineCaller) once() (int, error) {
	if _, err := c.nc.Write(c.request); err != nil {
		return 0, err
	}
	for begun := false; ; begun = true {
		part, err := c.in.ReadSlice('\n')
		if !begun && !bytes.HasPrefix(part, c.answer) && (err == nil || len(part) > 0) {
			return 0, fmt.Errorf("answer: %s", part[:min(len(part), 512)])
		}
		if err == nil {
			c.tail = part[max(0, len(part)-64):]
			return 0, nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return 0, err
		}
	}
}

// logCaller reads the whole event log as lines, page by page.
type logCaller struct{ lineCaller }

func (c *logCaller) once() (int, error) {
	for start := 0; ; {
		c.request = fmt.Appendf(c.request[:0], `{"jsonrpc":"2.0","id":1,"method":"GetCCEventLog","params":{"start":%d}}`+"\n", start)
		if _, err := c.lineCaller.once(); err != nil {
			return 0, err
		}
		_, next, more := bytes.Cut(c.tail, []byte(`"next":`))
		if !more {
			_, total, _ := bytes.Cut(c.tail, []byte(`"total":`))
			return strconv.Atoi(string(bytes.TrimRight(total, "}\n")))
		}
		n, err := strconv.Atoi(string(bytes.TrimRight(next, "}\n")))
		if err != nil || n <= start {
			return 0, fmt.Errorf("the page from record %d ends with %q", start, c.tail)
		}
		start = n
	}
}

// goCaller calls with our own client.
type goCaller struct {
	order  order
	client *rpc.Client
}

func (c *goCaller) open() (err error) {
	c.client, err = rpc.Dialer{Path: c.order.Path}.Dial(context.Background())
	return err
}

func (c *goCaller) close() {
	if c.client != nil {
		c.client.Close()
	}
}

func (c *goCaller) once() (int, error) {
	ctx := context.Background()
	if c.order.Kind == "go" {
		index, err := strconv.Atoi(c.order.Request)
		if err != nil {
			return 0, err
		}
		_, err = c.client.GetCCMeasurement(ctx, rpc.CCMeasurementParams{Index: index})
		return 0, err
	}
	var records []rpc.EventRecord
	for start := 0; ; {
		page, err := c.client.GetCCEventLog(ctx, rpc.CCEventLogParams{Start: start})
		if err != nil {
			return 0, err
		}
		if records == nil {
			records = make([]rpc.EventRecord, 0, page.Total)
		}
		records = append(records, page.Events...)
		if start = page.Next; start == 0 {
			return len(records), nil
		}
	}
}

// grpcCaller calls with gRPC's own client. It names its container itself, as
// with CIMA 0.5.
type grpcCaller struct {
	order order
	conn  *grpc.ClientConn
	stub  cima05.CimaClient
}

// grpcMessage lets a log of 10,000 events through in one message.
const grpcMessage = 64 << 20

func (c *grpcCaller) open() (err error) {
	c.conn, err = grpc.NewClient("unix://"+c.order.Path, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(grpcMessage)))
	c.stub = cima05.NewCimaClient(c.conn)
	return err
}

func (c *grpcCaller) close() {
	if c.conn != nil {
		c.conn.Close()
	}
}

func (c *grpcCaller) once() (int, error) {
	ctx := context.Background()
	if c.order.Kind == "grpclog" {
		log, err := c.stub.GetCcEventlog(ctx, &cima05.GetCcEventlogRequest{ContainerId: c.order.Request})
		return len(log.GetEventLogs()), err
	}
	if c.order.Request == "report" {
		nonce := "0123456789abcdef0123456789abcdef"
		_, err := c.stub.GetCcReport(ctx, &cima05.GetCcReportRequest{ContainerId: "bench", Nonce: &nonce})
		return 0, err
	}
	m, err := c.stub.GetCcMeasurement(ctx, &cima05.GetCcMeasurementRequest{ContainerId: "bench", Index: 3, AlgoId: rpc.AlgoSHA384})
	if err == nil && len(m.GetMeasurement().GetHash()) != 48 {
		err = errors.New("no digest")
	}
	return 0, err
}
