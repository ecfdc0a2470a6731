package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// rogues are hostile or broken callers. Their own answers don't matter; other
// callers must be answered all the same.
var rogues = map[string]func(context.Context, string) error{
	"flood":     flood,
	"slow":      slow,
	"half open": halfOpen,
	"garbage":   garbage,
	"deaf":      deaf,
	"many":      many,
	"connects":  connects,
}

const whoAmI = `{"jsonrpc":"2.0","id":%d,"method":"WhoAmI"}` + "\n"

func dial(ctx context.Context, socket string, d time.Duration) (net.Conn, error) {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "unix", socket)
	if err == nil {
		c.SetDeadline(time.Now().Add(d))
	}
	return c, err
}

// flood sends more requests than it waits for.
func flood(ctx context.Context, socket string) error {
	c, err := dial(ctx, socket, 2*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	go io.Copy(io.Discard, c)
	for i := range 3000 {
		if _, err := fmt.Fprintf(c, whoAmI, i); err != nil {
			return nil // the daemon dropped it, as it must
		}
	}
	return nil
}

// slow sends a request byte by byte, and hangs up before its end.
func slow(ctx context.Context, socket string) error {
	c, err := dial(ctx, socket, 3*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	for _, b := range []byte(fmt.Sprintf(whoAmI, 1))[:30] {
		if _, err := c.Write([]byte{b}); err != nil {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil
}

// halfOpen connects and sends nothing, or half a request, until its process
// ends.
func halfOpen(ctx context.Context, socket string) error {
	for i := range 5 {
		c, err := dial(ctx, socket, time.Hour)
		if err != nil {
			return err
		}
		if i%2 == 0 {
			c.Write([]byte(`{"jsonrpc":"2.0",`))
			c.(*net.UnixConn).CloseWrite()
		}
	}
	return nil
}

// garbage sends lines that are no requests.
func garbage(ctx context.Context, socket string) error {
	noise := make([]byte, 100<<10)
	rand.Read(noise)
	for _, text := range [][]byte{
		noise, bytes.Repeat([]byte("["), 70<<10), []byte(strings.Repeat("{}\n", 50)),
		[]byte(`{"jsonrpc":"2.0","id":1,"method":"WhoAmI","params":{"a":1,"A":2}}` + "\n"),
	} {
		c, err := dial(ctx, socket, time.Second)
		if err != nil {
			return err
		}
		c.Write(text)
		c.(*net.UnixConn).CloseWrite()
		io.Copy(io.Discard, c)
		c.Close()
	}
	return nil
}

// deaf sends many requests and reads no reply.
func deaf(ctx context.Context, socket string) error {
	c, err := dial(ctx, socket, time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	for i := range 16 {
		if _, err := fmt.Fprintf(c, `{"jsonrpc":"2.0","id":%d,"method":"GetCCEventLog"}`+"\n", i); err != nil {
			return nil
		}
	}
	time.Sleep(500 * time.Millisecond)
	return nil
}

// many opens more connections than a container may have.
func many(ctx context.Context, socket string) error {
	for range 100 {
		c, err := dial(ctx, socket, time.Second)
		if err != nil {
			return nil
		}
		defer c.Close()
	}
	return nil
}

// connects connects and hangs up for a second, as fast as it can.
func connects(ctx context.Context, socket string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for ctx.Err() == nil {
		if c, err := dial(ctx, socket, time.Second); err == nil {
			c.Close()
		}
	}
	return nil
}
