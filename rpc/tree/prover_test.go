package tree

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cima-project/cima/rpc"
)

var nonce = []byte("nonce of a test!")

// While a quote is made, all that come wait for the next one, and each has its own place.
func TestManyShareAQuote(t *testing.T) {
	quote := make(chan struct{})
	d := &container{wait: quote}
	p := NewProver(d)
	var all sync.WaitGroup
	call := func(i int) {
		b := binding(t, fmt.Sprint(i))
		all.Go(func() {
			proof, err := p.Prove(t.Context(), b, nonce)
			if err != nil {
				t.Error(err)
				return
			}
			if !proves(t, proof, b, nonce) {
				t.Errorf("call %d isn't proved", i)
			}
			if other := binding(t, fmt.Sprint(i+1)); proves(t, proof, other, nonce) || proves(t, proof, b, []byte("another's nonce!")) {
				t.Errorf("call %d proves another one", i)
			}
		})
	}
	call(0)
	for d.asked() == 0 {
		time.Sleep(time.Millisecond)
	}
	for i := range 40 {
		call(i + 1)
	}
	for waits := 0; waits < 40; time.Sleep(time.Millisecond) {
		p.mu.Lock()
		if p.next != nil {
			waits = len(p.next.leaves)
		}
		p.mu.Unlock()
	}
	close(quote)
	all.Wait()
	if n := d.asked(); n != 2 {
		t.Errorf("41 calls took %d quotes, want 2", n)
	}
}

// More calls than a tree has leaves have more than one tree.
func TestTreesHaveBounds(t *testing.T) {
	quote := make(chan struct{})
	p := NewProver(&container{wait: quote})
	var all sync.WaitGroup
	for i := range 2*rpc.MaxShared + 5 {
		b := binding(t, fmt.Sprint(i))
		all.Go(func() {
			proof, err := p.Prove(t.Context(), b, nonce)
			if err != nil || !proves(t, proof, b, nonce) {
				t.Errorf("call %d: %v", i, err)
			}
		})
	}
	time.AfterFunc(50*time.Millisecond, func() { close(quote) })
	all.Wait()
}

func TestRateLimitIsWaitedOut(t *testing.T) {
	d := &container{errors: []error{rpc.RateLimited(2*time.Millisecond, "slower"), rpc.NotReady(time.Millisecond, "soon")}}
	if _, err := NewProver(d).Prove(t.Context(), binding(t, "x"), nonce); err != nil || d.asked() != 3 {
		t.Errorf("%d calls, %v", d.asked(), err)
	}
	d = &container{errors: []error{rpc.Denied("no")}}
	if _, err := NewProver(d).Prove(t.Context(), binding(t, "x"), nonce); err == nil || d.asked() != 1 {
		t.Errorf("%d calls, %v", d.asked(), err)
	}
}

// Whoever gives up lets go of the daemon.
func TestNobodyWaits(t *testing.T) {
	p := NewProver(&container{wait: make(chan struct{})})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := p.Prove(ctx, binding(t, "x"), nonce); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
}
