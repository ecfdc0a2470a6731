package main

import (
	"bufio"
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/cima-project/cima/rpc"
)

// order is what a bystander is to do, and how often.
type order struct {
	Do string `json:"do"`
	N  int    `json:"n"`
}

// outcome is what became of it. Errors has the first of the failures.
type outcome struct {
	Done    int    `json:"done"`
	Failed  int    `json:"failed"`
	Error   string `json:"error,omitempty"`
	P99     int64  `json:"p99"` // of calls, in nanoseconds
	EchoP99 int64  `json:"echo_p99"`
}

func (o *outcome) count(err error) {
	if err == nil {
		o.Done++
		return
	}
	if o.Failed++; o.Error == "" {
		o.Error = err.Error()
	}
}

// bystander carries out orders in a container. dir is where the sockets are.
func bystander(dir string, in io.Reader, out io.Writer) int {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var o order
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		var done outcome
		switch o.Do {
		case "call":
			done = calls(dir, o.N)
		case "connect":
			done = connects(dir+"/cima.sock", o.N)
		case "execute":
			done = executes(o.N)
		case "evidence":
			done = evidence(dir+"/cima.sock", o.N)
		}
		text, err := json.Marshal(done)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		fmt.Fprintf(out, "%s\n", text)
	}
	return 0
}

const (
	measurement = `{"jsonrpc":"2.0","id":1,"method":"GetCCMeasurement","params":{"index":3}}` + "\n"
	// pace keeps the bystander within its own rate of 500 requests a second. The kernel lets
	// somebody who slept run sooner, so there is a pause before both round trips.
	pace = 3 * time.Millisecond
)

// calls alternates calls with bare round trips.
func calls(dir string, n int) (o outcome) {
	daemon, err1 := dial(dir + "/cima.sock")
	bare, err2 := dial("/run/echo/echo.sock")
	if err := errors.Join(err1, err2); err != nil {
		o.count(err)
		return o
	}
	defer daemon.Close()
	defer bare.Close()
	var took, echoed []time.Duration
	for range n {
		time.Sleep(pace)
		_, d, err := bare.ask(measurement)
		if err != nil {
			o.count(fmt.Errorf("the bare round trip: %w", err))
			return o
		}
		echoed = append(echoed, d)
		time.Sleep(pace)
		answer, d, err := daemon.ask(measurement)
		if err == nil && !strings.Contains(answer, `"result"`) {
			err = errors.New(strings.TrimSpace(answer))
		}
		if o.count(err); err == nil {
			took = append(took, d)
		} else if daemon, err = dial(dir + "/cima.sock"); err != nil {
			o.count(err)
			return o
		}
	}
	o.P99, o.EchoP99 = int64(p99(took)), int64(p99(echoed))
	return o
}

func p99(all []time.Duration) time.Duration {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)*99/100]
}

// peer is a connection on which a line is answered by a line.
type peer struct {
	net.Conn
	in *bufio.Reader
}

func dial(path string) (*peer, error) {
	nc, err := net.Dial("unix", path)
	if err != nil {
		return nil, err
	}
	return &peer{nc, bufio.NewReader(nc)}, nil
}

func (p *peer) ask(line string) (answer string, took time.Duration, err error) {
	begun := time.Now()
	p.SetDeadline(begun.Add(time.Minute))
	if _, err := io.WriteString(p, line); err != nil {
		return "", 0, err
	}
	answer, err = p.in.ReadString('\n')
	return answer, time.Since(begun), err
}

// connects connects without waiting, as net.Dial does; each tenth connection asks, too.
func connects(path string, n int) (o outcome) {
	for i := range n {
		time.Sleep(pace)
		p, err := dial(path)
		if err == nil && i%10 == 0 {
			var answer string
			answer, _, err = p.ask(measurement)
			if err == nil && !strings.Contains(answer, `"result"`) {
				err = errors.New(strings.TrimSpace(answer))
			}
		}
		o.count(err)
		if p != nil {
			p.Close()
		}
	}
	return o
}

// nobodyWaits is longer than an execution takes beside any storm, and shorter than the 45 s
// for which a lease holds up whoever opens the file.
const nobodyWaits = 20 * time.Second

// executes executes programs of the bystander's own, which the daemon measures.
func executes(n int) (o outcome) {
	for range n {
		ctx, cancel := context.WithTimeout(context.Background(), nobodyWaits)
		o.count(exec.CommandContext(ctx, "/attacker", "nothing").Run())
		cancel()
	}
	return o
}

// evidence asks for evidence. The bystander's own rate allows ten at once.
func evidence(path string, n int) (o outcome) {
	for range n {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		c, err := rpc.Dialer{Path: path}.Dial(ctx)
		if err == nil {
			_, err = c.GetEvidence(ctx, rpc.EvidenceParams{Nonce: []byte("a nonce of thirty-two bytes long")})
			c.Close()
		}
		cancel()
		o.count(err)
	}
	return o
}

// whoAmI prints how this container's start was.
func whoAmI(out io.Writer) int {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c, err := rpc.Dialer{}.Dial(ctx)
	if err == nil {
		defer c.Close()
		var who rpc.Identity
		if who, err = c.WhoAmI(ctx); err == nil && who.Container != nil {
			fmt.Fprintln(out, who.Container.Assurance.Start)
			return 0
		}
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// echo answers each line by itself: the bare round trip.
func echo(path string) int {
	l, err := net.Listen("unix", path)
	if err == nil {
		err = os.Chmod(path, 0o666)
	}
	for err == nil {
		var nc net.Conn
		if nc, err = l.Accept(); err == nil {
			go answer(nc)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func answer(nc net.Conn) {
	defer nc.Close()
	in := bufio.NewReader(nc)
	for {
		line, err := in.ReadSlice('\n')
		if err == nil {
			_, err = nc.Write(line)
		}
		if err != nil {
			return
		}
	}
}
