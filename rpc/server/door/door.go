// Package door answers: which connections are taken, and in which order?
//
// The kernel keeps connections that nobody has accepted in one queue for all, and a
// connect(2) that must not wait fails while the queue is full. So the queue must be empty
// whatever one caller does. Door accepts as fast as it can, and never waits for what it
// does with a connection:
//
//   - While all callers together connect as seldom as one may, and don't have to wait,
//     nobody is over a rate, and nobody is looked up.
//   - Else each connection has an origin: the container or the user that it comes from,
//     as far as that is known for two system calls. Beyond the origin's rate it is closed
//     at once. While that happens, Door takes connections past package net, which would
//     make each known to the runtime's poller first.
//   - The others wait to be identified, a few at a time, and the origins take turns.
package door

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"
)

// Door takes connections. Set its fields before Serve.
type Door struct {
	// Origin names where a connection comes from, by its socket. It must not wait. If it
	// returns false the connection is closed. nil: no origin is known, there is no rate,
	// and one caller's connections can fill all places before anybody is identified.
	Origin func(socket int) (name string, ok bool)

	// Rate is how many connections a second are taken of one origin, and Burst how many
	// at once.
	Rate  float64
	Burst int

	// Slots is how many connections are identified at once, and Share how many of one
	// origin. Waiting is how many of one origin wait for that.
	Slots, Share, Waiting int

	// Admit counts a connection that is taken, and may refuse it: then it is turned
	// away with the answer. Leave is called for each that is admitted and not taken.
	Admit func() bool
	Leave func()

	// Take answers an admitted connection until it ends. It calls identified when it
	// knows the caller, or knows that it never will. Go runs it, in a goroutine.
	Take func(nc net.Conn, identified func())
	Go   func(func())

	// TurnAway closes a connection, and may say why. It must not wait.
	TurnAway func(nc net.Conn, why Reason)

	// Refused is called for each connection that is closed without a word.
	Refused func()

	rates rates
	line  line
}

// Reason says which limit a connection is beyond.
type Reason int

const (
	Full    Reason = iota // Admit refused it
	TooMany               // as many of the origin wait already
	TooFast               // its origin is beyond its rate
)

// Serve takes the connections of a listener until ctx ends or the listener fails for
// good. It returns while connections are still answered; those that wait are closed.
func (d *Door) Serve(ctx context.Context, l net.Listener) error {
	d.rates.setUp(d.Rate, d.Burst)
	nameless := max(1, d.Slots/2) // the other half is for those that are looked up
	if d.Origin == nil {
		nameless = d.Slots
	}
	d.line.setUp(d.Slots, d.Share, nameless, d.Waiting)
	defer d.closeWaiting()
	wait := time.Duration(0)
	for {
		nc, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				nc.Close()
			}
			return nil
		case err != nil && !isTemporary(err):
			return fmt.Errorf("listener failed: %w", err)
		case err != nil:
			wait = min(max(2*wait, 5*time.Millisecond), time.Second)
			pause(ctx, wait)
			continue
		}
		wait = 0
		if !d.enter(nc) {
			d.drain(ctx, l)
		}
	}
}

// enter lets a connection in, or turns it away; it returns false if its origin is beyond
// its rate.
func (d *Door) enter(nc net.Conn) (within bool) {
	origin, ok := "", true
	if d.Origin != nil && !(d.rates.quiet() && d.line.room()) {
		if origin, ok = originOf(nc, d.Origin); ok && !d.rates.allow(origin) {
			if d.rates.mayAnswer() {
				d.TurnAway(nc, TooFast)
			} else {
				d.refuse(nc)
			}
			return false
		}
	}
	if !ok {
		d.refuse(nc)
		return true
	}
	d.queue(nc, origin)
	return true
}

func (d *Door) refuse(nc net.Conn) {
	nc.Close()
	d.Refused()
}

// queue lets a connection wait for its turn.
func (d *Door) queue(nc net.Conn, origin string) {
	if !d.Admit() {
		d.TurnAway(nc, Full)
		return
	}
	now, ok := d.line.push(nc, origin)
	switch {
	case !ok:
		d.Leave()
		d.TurnAway(nc, TooMany)
	case now:
		d.take(nc, origin)
	}
}

// take starts to answer a connection. Whoever is identified gives its slot to the next.
func (d *Door) take(nc net.Conn, origin string) {
	var once sync.Once
	identified := func() {
		once.Do(func() {
			if next, its, ok := d.line.next(origin); ok {
				d.take(next, its)
			}
		})
	}
	d.Go(func() {
		defer identified()
		d.Take(nc, identified)
	})
}

func (d *Door) closeWaiting() {
	for _, nc := range d.line.close() {
		nc.Close()
		d.Leave()
	}
}

// originOf asks for the origin of a connection. One that is no socket has none.
func originOf(nc net.Conn, ask func(int) (string, bool)) (origin string, ok bool) {
	socket, is := nc.(syscall.Conn)
	if !is {
		return "", true
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return "", false
	}
	if raw.Control(func(fd uintptr) { origin, ok = ask(int(fd)) }) != nil {
		return "", false
	}
	return origin, ok
}

// isTemporary reports whether an error of accept(2) can pass by itself: there was no
// file descriptor or memory left, or the peer has gone again.
func isTemporary(err error) bool {
	for _, number := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM,
		syscall.ECONNABORTED, syscall.EINTR, syscall.EAGAIN, syscall.EPERM} {
		if errors.Is(err, number) {
			return true
		}
	}
	return false
}

func pause(ctx context.Context, wait time.Duration) {
	select {
	case <-time.After(wait):
	case <-ctx.Done():
	}
}
