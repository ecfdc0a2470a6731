// Package compat answers: what does a Go program for CIMA 0.5's SDK need?
//
// It has the names of the packages cima, evidence_api and tdx, so that only imports change:
//
//	cima "github.com/cima-project/cima/rpc/compat"         // was: github.com/cc-api/…/sdk/golang/cima
//	evidence_api "github.com/cima-project/cima/rpc/compat" // was: github.com/cc-api/evidence-api/…
//	tdx "github.com/cima-project/cima/rpc/compat"          // was: github.com/cc-api/evidence-api/…/tdx
//
// What changed is in cima-from-05(7). New programs use package rpc.
package compat

import (
	"context"
	"crypto/rand"
	"crypto/sha512"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/cima-project/cima/rpc"
)

// patience is how long calls wait for the daemon, and while it says to come later. CIMA
// 0.5's calls took as long.
const patience = time.Minute

// EvidenceAPI is what an SDK does.
type EvidenceAPI interface {
	GetDefaultAlgorithm() (TCG_ALG, error)
	GetCCReport(nonce, userData []byte, extraArgs map[string]any) (Report, error)
	DumpCCReport(reportBytes []byte) error
	GetMeasurementCount() (int, error)
	GetCCMeasurement(index int, alg TCG_ALG) (TcgDigest, error)
	GetCCEventLog(params ...int32) ([]FormatedTcgEvent, error)
	ReplayCCEventLog(formatedEventLogs []FormatedTcgEvent) map[int]map[TCG_ALG][]byte
}

// SDK is CIMA 0.5's SDK on CIMA's daemon: $CIMA_SOCKET, else rpc.DefaultSocket. Like CIMA
// 0.5's it makes a connection for each call, and its zero value is ready to use. Unlike
// that one it returns errors, and doesn't end the program.
type SDK struct{}

var _ EvidenceAPI = (*SDK)(nil)

// with calls f with a client.
func with[R any](f func(context.Context, *rpc.Client) (R, error)) (R, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := rpc.Dialer{Patience: patience}.Dial(ctx)
	if err != nil {
		return *new(R), err
	}
	defer c.Close()
	return f(ctx, c)
}

// GetDefaultAlgorithm returns the algorithm of every digest: SHA-384.
func (s *SDK) GetDefaultAlgorithm() (TCG_ALG, error) {
	return with(func(ctx context.Context, c *rpc.Client) (TCG_ALG, error) {
		a, err := c.GetDefaultAlgorithm(ctx)
		return TCG_ALG(a.AlgoID), err
	})
}

// GetMeasurementCount returns how many registers there are: 4, on the host 3.
func (s *SDK) GetMeasurementCount() (int, error) {
	return with(func(ctx context.Context, c *rpc.Client) (int, error) {
		n, err := c.GetMeasurementCount(ctx)
		return n.Count, err
	})
}

// GetCCMeasurement returns a register: 0–2 are RTMR0–2, 3 is the container's.
func (s *SDK) GetCCMeasurement(index int, alg TCG_ALG) (TcgDigest, error) {
	return with(func(ctx context.Context, c *rpc.Client) (TcgDigest, error) {
		m, err := c.GetCCMeasurement(ctx, rpc.CCMeasurementParams{Index: index, AlgoID: int(alg)})
		return TcgDigest{AlgID: TCG_ALG(m.AlgoID), Hash: m.Hash[:]}, err
	})
}

// GetCCReport returns a quote. Without a nonce a random one is drawn, and such a report
// proves no freshness. The quote is shared with others who wait: programs of CIMA 0.5 ask
// often.
func (s *SDK) GetCCReport(nonce, userData []byte, _ map[string]any) (Report, error) {
	if len(nonce) == 0 {
		log.Print("no nonce was given: a random one was drawn, which proves no freshness")
		nonce = make([]byte, 32)
		rand.Read(nonce)
	}
	return with(func(ctx context.Context, c *rpc.Client) (Report, error) {
		bound, err := c.GetCCReport(ctx, rpc.CCReportParams{Nonce: nonce, UserData: userData, Shared: true})
		if err != nil {
			return nil, err
		}
		r := &TdxReport{Bound: bound}
		return r, r.InitFromBytes(bound.CCReport)
	})
}

// DumpCCReport logs a quote in hex.
func (s *SDK) DumpCCReport(reportBytes []byte) error {
	dump(reportBytes)
	return nil
}

// GetCCEventLog returns the events from number params[0] on, params[1] of them; without
// params all.
func (s *SDK) GetCCEventLog(params ...int32) ([]FormatedTcgEvent, error) {
	start, count := int32(0), int32(-1)
	switch len(params) {
	case 2:
		if count = params[1]; count <= 0 {
			return nil, fmt.Errorf("the count is %d and must be above zero", count)
		}
		fallthrough
	case 1:
		start = params[0]
	case 0:
	default:
		return nil, errors.New("the parameters must be start and count, at most")
	}
	return with(func(ctx context.Context, c *rpc.Client) (events []FormatedTcgEvent, err error) {
		for r, err := range c.Events(ctx, rpc.CCEventLogParams{Start: int(start), Count: int(min(max(count, 0), rpc.MaxEventCount))}) {
			if err != nil {
				return nil, err
			}
			events = append(events, eventOf(r))
			if len(events) == int(count) {
				break
			}
		}
		return events, nil
	})
}

func eventOf(r rpc.EventRecord) *TcgImrEvent {
	e := &TcgImrEvent{
		ImrIndex: uint32(r.IMRIndex), EventType: TcgEventType(r.EventType),
		EventSize: uint32(r.EventSize), Event: r.Event, FormatType: TCG_PCCLIENT_FORMAT,
	}
	for _, d := range r.Digests {
		e.Digests = append(e.Digests, TcgDigest{AlgID: TCG_ALG(d.AlgoID), Hash: d.Hash})
	}
	return e
}

// ReplayCCEventLog returns the registers that events replay to, in SHA-384.
func (s *SDK) ReplayCCEventLog(events []FormatedTcgEvent) map[int]map[TCG_ALG][]byte {
	registers := make(map[int]map[TCG_ALG][]byte)
	for _, e := range events {
		if e.GetEventType() == EV_NO_ACTION && e.GetImrIndex() != rpc.MaxIndex {
			continue
		}
		for _, d := range e.GetDigests() {
			if d.AlgID != TPM_ALG_SHA384 {
				continue
			}
			index := int(e.GetImrIndex())
			if registers[index] == nil {
				registers[index] = map[TCG_ALG][]byte{TPM_ALG_SHA384: make([]byte, sha512.Size384)}
			}
			next := sha512.Sum384(append(registers[index][TPM_ALG_SHA384], d.Hash...))
			registers[index][TPM_ALG_SHA384] = next[:]
		}
	}
	return registers
}
