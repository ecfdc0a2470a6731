package main

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/packaging/test/bench/cima05"
)

// rawServer echoes every byte: no protocol can be faster.
func rawServer(path string) error {
	l, err := listen(path)
	if err != nil {
		return err
	}
	for {
		nc, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer nc.Close()
			var b [1]byte
			for {
				if _, err := nc.Read(b[:]); err != nil {
					return
				}
				if _, err := nc.Write(b[:]); err != nil {
					return
				}
			}
		}()
	}
}

// listen makes a socket that the container's user can connect to.
func listen(path string) (net.Listener, error) {
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	return l, os.Chmod(path, 0o666)
}

// grpcServer is a service like CIMA 0.5's, with gRPC-go as it comes: a caller
// names its container itself, registers and events are in memory, and quotes
// come from the same simulated TD as ours.
func grpcServer(path, td string) error {
	machine, err := sim.Dial(td)
	if err != nil {
		return err
	}
	l, err := listen(path)
	if err != nil {
		return err
	}
	s := grpc.NewServer(grpc.MaxSendMsgSize(grpcMessage))
	cima05.RegisterCimaServer(s, &service{machine: machine, containers: make(map[string]*container05)})
	return s.Serve(l)
}

type service struct {
	cima05.UnimplementedCimaServer
	machine *sim.TD

	mu         sync.Mutex
	containers map[string]*container05
}

type container05 struct {
	register []byte
	events   []*cima05.Event
}

// container is the container of that name: a name that is a number has that
// many events.
func (s *service) container(name string) *container05 {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.containers[name]
	if c == nil {
		c = &container05{register: make([]byte, 48)}
		n, _ := strconv.Atoi(name)
		for i := range n {
			c.events = append(c.events, event05(i))
		}
		s.containers[name] = c
	}
	return c
}

// event05 is as large as the events that fill our own log.
func event05(i int) *cima05.Event {
	text := fmt.Sprintf(`{"extend":{"content":%q,"domain":"bench","operation":"event"}}`, eventContent(i))
	digest := sha512.Sum384([]byte(text))
	whole := sha512.Sum384(digest[:])
	return &cima05.Event{
		RecNum: uint32(i), ImrIndex: 3, EventType: boot.EvEventTag,
		Digests:   []*cima05.Digest{{AlgoId: 12, Hash: digest[:]}},
		EventSize: uint32(len(text)), Event: []byte(text),
		ExtraInfo: map[string]string{"rtmr3_digest": hex.EncodeToString(whole[:])},
	}
}

func eventContent(i int) string { return fmt.Sprintf("event number %08d of a container", i) }

func (s *service) GetDefaultAlgorithm(context.Context, *cima05.GetDefaultAlgorithmRequest) (*cima05.GetDefaultAlgorithmReply, error) {
	return &cima05.GetDefaultAlgorithmReply{AlgoId: 12}, nil
}

func (s *service) GetMeasurementCount(context.Context, *cima05.GetMeasurementCountRequest) (*cima05.GetMeasurementCountReply, error) {
	return &cima05.GetMeasurementCountReply{Count: 4}, nil
}

func (s *service) GetCcMeasurement(ctx context.Context, q *cima05.GetCcMeasurementRequest) (*cima05.GetCcMeasurementReply, error) {
	hash := s.container(q.ContainerId).register
	switch {
	case q.AlgoId != 12 || q.Index > 3:
		return nil, status.Error(codes.InvalidArgument, "unknown register")
	case q.Index < 3:
		now, err := s.machine.Registers(ctx)
		if err != nil {
			return nil, err
		}
		hash = now.RTMR[q.Index][:]
	}
	return &cima05.GetCcMeasurementReply{Measurement: &cima05.Digest{AlgoId: 12, Hash: hash}}, nil
}

func (s *service) GetCcEventlog(_ context.Context, q *cima05.GetCcEventlogRequest) (*cima05.GetCcEventlogReply, error) {
	events := s.container(q.ContainerId).events
	start := min(int(q.GetStart()), len(events))
	end := len(events)
	if q.Count != nil {
		end = min(end, start+int(*q.Count))
	}
	return &cima05.GetCcEventlogReply{EventLogs: events[start:end]}, nil
}

func (s *service) GetCcReport(ctx context.Context, q *cima05.GetCcReportRequest) (*cima05.GetCcReportReply, error) {
	data := sha512.Sum512(bytes.Join([][]byte{s.container(q.ContainerId).register, []byte(q.GetNonce()), []byte(q.GetUserData())}, nil))
	quote, err := s.machine.Quote(ctx, data)
	if err != nil {
		return nil, err
	}
	return &cima05.GetCcReportReply{CcType: 1, CcReport: quote}, nil
}
