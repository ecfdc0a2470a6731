package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Where the client finds the two servers, and where the stage puts them.
var sockets = map[string]string{
	"cima": "/run/cima/cima.sock",
	"raw":  "/run/cima-raw/raw.sock",
}

// order tells the client what to do for one round.
type order struct {
	Server      string        `json:"server"`
	Under       string        `json:"under"`   // a directory that the sockets' paths begin with
	Request     string        `json:"request"` // written as it is; "" is a newline, as for the bare server
	Connections int           `json:"connections"`
	Connect     bool          `json:"connect"` // connect and close for each request
	Time        time.Duration `json:"time"`
}

// result is what came of it.
type result struct {
	Error   string  `json:"error,omitempty"`
	Answers int     `json:"answers"`
	Rate    float64 `json:"rate"` // answers per second
	P50     float64 `json:"p50"`  // µs from writing a request to having read its answer
	P99     float64 `json:"p99"`
	CPU     float64 `json:"cpu_us"` // that the client used, in all
}

// client carries out orders, a line each, until there are no more.
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

// carryOut drives one server for one round.
func (o order) carryOut() (result, error) {
	drivers := make([]*driven, o.Connections)
	for i := range drivers {
		drivers[i] = newDriven(o)
		if !o.Connect {
			defer drivers[i].close()
			if err := drivers[i].open(); err != nil {
				return result{}, err
			}
		}
	}
	var all sync.WaitGroup
	used, begun := ownCPU(), time.Now()
	for _, d := range drivers {
		all.Go(func() { d.drive(begun, o.Time, o.Connect) })
	}
	all.Wait()
	took := time.Since(begun)
	used = ownCPU() - used
	var times []time.Duration
	for _, d := range drivers {
		if d.err != nil {
			return result{}, d.err
		}
		times = append(times, d.times...)
	}
	slices.Sort(times)
	at := func(part float64) float64 {
		if len(times) == 0 {
			return 0
		}
		return float64(times[int(part*float64(len(times)-1))].Nanoseconds()) / 1000
	}
	return result{Answers: len(times), Rate: float64(len(times)) / took.Seconds(), P50: at(0.5), P99: at(0.99), CPU: used}, nil
}

// ownCPU is what this process has used so far, in µs.
func ownCPU() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1000
}

// driven is one connection, and what it saw.
type driven struct {
	path    string
	request []byte
	answer  []byte // what every answer begins with
	nc      net.Conn
	in      *bufio.Reader
	times   []time.Duration
	err     error
}

func newDriven(o order) *driven {
	d := &driven{path: o.Under + sockets[o.Server], request: []byte("\n"), answer: []byte("\n"), times: make([]time.Duration, 0, 1<<12)}
	d.in = bufio.NewReaderSize(nil, 64<<10)
	if o.Request != "" {
		d.request = []byte(o.Request + "\n")
		d.answer = []byte(`{"jsonrpc":"2.0","id":1,"result":`)
	}
	return d
}

func (d *driven) open() error {
	nc, err := net.Dial("unix", d.path)
	if err != nil {
		return err
	}
	d.nc = nc
	d.in.Reset(nc)
	return nil
}

func (d *driven) close() {
	if d.nc != nil {
		d.nc.Close()
	}
}

// drive asks again and again; what was begun in time counts.
func (d *driven) drive(begun time.Time, wanted time.Duration, connect bool) {
	for last := begun; d.err == nil && last.Sub(begun) < wanted; {
		if connect {
			d.err = d.open()
		}
		if d.err == nil {
			d.err = d.once()
		}
		if connect {
			d.close()
		}
		now := time.Now()
		d.times = append(d.times, now.Sub(last))
		last = now
	}
}

// once writes the request and reads a line.
func (d *driven) once() error {
	if _, err := d.nc.Write(d.request); err != nil {
		return err
	}
	first, whole := []byte(nil), false
	for !whole {
		part, err := d.in.ReadSlice('\n')
		if first == nil {
			first = part[:min(len(part), 512)]
			if !bytes.HasPrefix(first, d.answer) && err == nil {
				return fmt.Errorf("answer: %s", first)
			}
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
		whole = err == nil
	}
	return nil
}
