// Package abandon answers: what becomes of a call that doesn't return?
//
// Who serves a file system, or holds its locks, decides how long a system call on it takes,
// and no context ends the call. Such a call is made by a goroutine of its own, and is
// abandoned at its deadline. What was abandoned keeps a thread until it returns, so it is
// counted and bounded for each owner: who made calls hang has none made any more, and
// nobody else notices.
package abandon

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Limits of calls that hang.
const (
	maxOfOwner = 4
	maxAll     = 256
)

// errHung says that earlier calls for the same owner hang, or too many do in all.
var errHung = errors.New("earlier calls on its files don't return")

// Calls are the calls that were abandoned and have not returned. The zero value has none.
type Calls struct {
	mu      sync.Mutex
	byOwner map[string]int
	all     int
}

// call is one call; under Calls.mu.
type call struct{ returned, abandoned bool }

// Do calls f, and returns what f returns, or the error of ctx where that ends before. f must
// use nothing that its caller changes afterwards.
func Do[T any](ctx context.Context, c *Calls, owner string, f func() (T, error)) (value T, err error) {
	if !c.mayCall(owner) {
		return value, fmt.Errorf("%s: %w", owner, errHung)
	}
	type result struct {
		value T
		err   error
	}
	results, one := make(chan result, 1), &call{}
	go func() {
		value, err := f()
		results <- result{value, err}
		c.returned(one, owner)
	}()
	select {
	case r := <-results:
		return r.value, r.err
	case <-ctx.Done():
	}
	if c.abandon(one, owner) {
		return value, ctx.Err()
	}
	r := <-results // it returned meanwhile
	return r.value, r.err
}

func (c *Calls) mayCall(owner string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byOwner[owner] < maxOfOwner && c.all < maxAll
}

// abandon counts a call that hangs, unless it has returned.
func (c *Calls) abandon(one *call, owner string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if one.returned {
		return false
	}
	if c.byOwner == nil {
		c.byOwner = make(map[string]int)
	}
	one.abandoned = true
	c.byOwner[owner]++
	c.all++
	return true
}

func (c *Calls) returned(one *call, owner string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if one.returned = true; !one.abandoned {
		return
	}
	c.all--
	if c.byOwner[owner]--; c.byOwner[owner] == 0 {
		delete(c.byOwner, owner)
	}
}
