package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"syscall"
	"time"
)

// order is what the client must do in one round.
type order struct {
	Kind        string        `json:"kind"` // "line", "log", "go", "golog", "grpc" or "grpclog": the kind of caller (callers.go)
	Path        string        `json:"path"` // of the server's socket, as the client sees it
	Request     string        `json:"request"`
	Answer      string        `json:"answer"` // the beginning of every answer
	Connections int           `json:"connections"`
	Connect     bool          `json:"connect"`        // connect and close for each request
	Time        time.Duration `json:"time"`           // requests that begin within this time count
	Count       int           `json:"count,omitzero"` // requests of each connection, however long they take
}

// result is the outcome of an order.
type result struct {
	Error   string  `json:"error,omitempty"`
	Answers int     `json:"answers"`
	Rate    float64 `json:"rate"` // answers per second
	P50     float64 `json:"p50"`  // µs from the request to the whole answer
	P99     float64 `json:"p99"`
	CPU     float64 `json:"cpu_us"`    // the client's, for each answer
	Server  float64 `json:"server_us"` // the server's, for each answer
	Records int     `json:"records"`   // of the event log in an answer
}

// client carries out orders, one a line, until there are no more.
func client(in io.Reader, out io.Writer) error {
	orders, results := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var o order
		if err := orders.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		r, err := o.carryOut()
		if err != nil {
			r.Error = err.Error()
		}
		if err := results.Encode(r); err != nil {
			return err
		}
	}
}

// driven is one caller, and its measurements.
type driven struct {
	caller  caller
	records int
	times   []time.Duration
	err     error
}

// carryOut runs one round against one server.
func (o order) carryOut() (result, error) {
	drivers := make([]*driven, max(1, o.Connections))
	for i := range drivers {
		c, err := newCaller(o)
		if err != nil {
			return result{}, err
		}
		drivers[i] = &driven{caller: c, times: make([]time.Duration, 0, 1<<12)}
		if !o.Connect {
			defer c.close()
			if err := c.open(); err != nil {
				return result{}, err
			}
		}
	}
	var all sync.WaitGroup
	used, begun := ownCPU(), time.Now()
	for _, d := range drivers {
		all.Go(func() { d.drive(begun, o) })
	}
	all.Wait()
	took := time.Since(begun)
	return sum(drivers, took, ownCPU()-used)
}

func sum(drivers []*driven, took time.Duration, used float64) (result, error) {
	var times []time.Duration
	for _, d := range drivers {
		if d.err != nil {
			return result{}, d.err
		}
		times = append(times, d.times...)
	}
	if len(times) == 0 {
		return result{}, errors.New("no answer in the whole round")
	}
	slices.Sort(times)
	at := func(part float64) float64 {
		return float64(times[int(part*float64(len(times)-1))].Nanoseconds()) / 1000
	}
	n := float64(len(times))
	return result{
		Answers: len(times), Rate: n / took.Seconds(), P50: at(0.5), P99: at(0.99), CPU: used / n,
		Records: drivers[0].records,
	}, nil
}

// drive makes requests one after the other.
func (d *driven) drive(begun time.Time, o order) {
	for last := begun; d.err == nil && (len(d.times) < o.Count || o.Count == 0 && last.Sub(begun) < o.Time); {
		if o.Connect {
			d.err = d.caller.open()
		}
		if d.err == nil {
			d.records, d.err = d.caller.once()
		}
		if o.Connect {
			d.caller.close()
		}
		now := time.Now()
		d.times = append(d.times, now.Sub(last))
		last = now
	}
	if d.err != nil {
		d.err = fmt.Errorf("%s: %w", o.Path, d.err)
	}
}

// ownCPU is what this process has used so far, in µs.
func ownCPU() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1000
}
