// Contender asks, floods or burns, as lines on its input say, and answers each
// with one line: "ask MICROSECONDS COUNT" with the 99th percentile in nanoseconds
// and the calls refused, "flood RATE MILLISECONDS" with calls sent, calls refused
// and the milliseconds of CPU it took, "burn MILLISECONDS CPU" with nothing.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cima-project/cima/rpc"
)

// floodConnections share the rate of a flood.
const floodConnections = 16

func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var verb string
		var a, b int
		if _, err := fmt.Sscan(lines.Text(), &verb, &a, &b); err != nil {
			fmt.Println("error", err)
			continue
		}
		switch verb {
		case "ask":
			fmt.Println(ask(time.Duration(a)*time.Microsecond, b))
		case "flood":
			fmt.Println(flood(a, time.Duration(b)*time.Millisecond))
		case "burn":
			burn(time.Duration(a)*time.Millisecond, time.Duration(b)*time.Millisecond)
			fmt.Println("burnt")
		}
	}
}

func dial() *rpc.Client {
	c, err := rpc.Dialer{Patience: -1}.Dial(context.Background()) // what is refused is counted, and not tried again
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	return c
}

func call(c *rpc.Client) (refused bool) {
	_, err := c.GetCCMeasurement(context.Background(), rpc.CCMeasurementParams{Index: 3})
	var wire *rpc.Error
	if err != nil && !errors.As(err, &wire) {
		fmt.Println("error", err)
		os.Exit(1)
	}
	return err != nil
}

func ask(every time.Duration, count int) (p99 int64, refused int) {
	c := dial()
	defer c.Close()
	took := make([]time.Duration, count)
	for i := range took {
		begin := time.Now()
		if call(c) {
			refused++
		}
		took[i] = time.Since(begin)
		time.Sleep(every - took[i])
	}
	slices.Sort(took)
	return int64(took[count*99/100]), refused
}

func flood(rate int, length time.Duration) string {
	before, end := cpu(), time.Now().Add(length)
	var sent, refused atomic.Int64
	var all sync.WaitGroup
	for range floodConnections {
		all.Go(func() {
			c := dial()
			defer c.Close()
			for next := time.Now(); next.Before(end); next = next.Add(floodConnections * time.Second / time.Duration(rate)) {
				time.Sleep(time.Until(next))
				sent.Add(1)
				if call(c) {
					refused.Add(1)
				}
			}
		})
	}
	all.Wait()
	return fmt.Sprint(sent.Load(), " ", refused.Load(), " ", (cpu() - before).Milliseconds())
}

func burn(length, busy time.Duration) {
	const slot = 10 * time.Millisecond
	spin := slot * busy / length
	for end := time.Now().Add(length); time.Now().Before(end); {
		begin := time.Now()
		for time.Since(begin) < spin {
		}
		time.Sleep(slot - spin)
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
