package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"time"

	"github.com/cima-project/cima/rpc"
)

// What a container can be ordered to do.
const (
	doWhoAmI   = "whoami"
	doExtend   = "extend"
	doMeasure  = "measure"
	doEventLog = "event log"
	doEvidence = "evidence"
	doReport   = "report"
)

// order is a line to the caller in a container.
type order struct {
	Do      string `json:"do"`
	Content string `json:"content,omitempty"` // of an extend
	Nonce   []byte `json:"nonce,omitempty"`
	Shared  bool   `json:"shared,omitzero"`
}

// outcome is the line that answers an order.
type outcome struct {
	Result  json.RawMessage `json:"result,omitzero"`
	Error   string          `json:"error,omitempty"`
	Code    rpc.Code        `json:"code,omitzero"`    // of the daemon's error
	Unknown bool            `json:"unknown,omitzero"` // the extend may have been carried out
	TookMS  int64           `json:"took_ms"`
}

// callTime is how long a caller waits at most for an answer, restarts of the
// daemon included.
const callTime = 45 * time.Second

// caller is the first process of a container: it carries out orders.
func caller(socket string, in io.Reader, out io.Writer) int {
	orders := json.NewDecoder(bufio.NewReader(in))
	answers := json.NewEncoder(out)
	var c *rpc.Client
	for {
		var o order
		if err := orders.Decode(&o); err != nil {
			return 0 // no more orders
		}
		begin := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), callTime)
		var a outcome
		var err error
		if rogue := rogues[o.Do]; rogue != nil {
			err = rogue(ctx, socket)
		} else {
			if c == nil {
				c, err = rpc.Dialer{Path: socket, Wait: true}.Dial(ctx)
			}
			if err == nil {
				a.Result, err = do(ctx, c, o)
			}
		}
		cancel()
		if err != nil {
			a.fail(err)
		}
		a.TookMS = time.Since(begin).Milliseconds()
		if answers.Encode(a) != nil {
			return 1
		}
	}
}

func (a *outcome) fail(err error) {
	a.Error = err.Error()
	var wire *rpc.Error
	if errors.As(err, &wire) {
		a.Code = wire.Code
	}
	var away *rpc.UnreachableError
	a.Unknown = a.Code == rpc.CodeTEEUnavailable || wire == nil && !errors.As(err, &away)
}

func do(ctx context.Context, c *rpc.Client, o order) (json.RawMessage, error) {
	var raw json.RawMessage
	var params any
	method := map[string]string{
		doWhoAmI: rpc.MethodWhoAmI, doExtend: rpc.MethodExtendMeasurement, doMeasure: rpc.MethodGetCCMeasurement,
		doEventLog: rpc.MethodGetCCEventLog, doEvidence: rpc.MethodGetEvidence, doReport: rpc.MethodGetCCReport,
	}[o.Do]
	switch o.Do {
	case doExtend:
		params = rpc.ExtendParams{Domain: "soak.example", Operation: "count", Content: o.Content}
	case doMeasure:
		params = rpc.CCMeasurementParams{Index: 3}
	case doEvidence:
		params = rpc.EvidenceParams{Nonce: o.Nonce, Shared: o.Shared}
	case doReport:
		params = rpc.CCReportParams{Nonce: o.Nonce, Shared: o.Shared}
	}
	err := c.Call(ctx, method, params, &raw)
	return raw, err
}
