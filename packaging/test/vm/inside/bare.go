package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/cima-project/cima/rpc"
)

// several is how many requests one connection sends at once.
const several = 4

// connections makes connections, and uses each as long as the daemon leaves it
// open. The kernel shows whether the daemon had read everything when it closed:
// if not, the other side gets ECONNRESET. So if a connection ends cleanly,
// every request must have been answered.
func (l *load) connections(ctx, loaded context.Context) error {
	for loaded.Err() == nil {
		nc, err := (&net.Dialer{}).DialContext(ctx, "unix", rpc.DefaultSocket)
		if err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		err = l.connection(loaded, nc)
		nc.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *load) connection(loaded context.Context, nc net.Conn) error {
	nc.SetDeadline(time.Now().Add(20 * time.Minute)) // apt took five on a machine that did much else
	replies := bufio.NewReader(nc)
	for loaded.Err() == nil {
		var lines strings.Builder
		for i := range several {
			fmt.Fprintf(&lines, `{"jsonrpc":"2.0","id":%d,"method":"WhoAmI"}`+"\n", i)
		}
		_, err := io.WriteString(nc, lines.String())
		if errors.Is(err, syscall.EPIPE) {
			l.closed.Add(1) // between two requests
			return nil
		}
		for answered := 0; answered < several; answered++ {
			if err == nil {
				_, err = replies.ReadSlice('\n')
			}
			switch {
			case errors.Is(err, io.EOF):
				return fmt.Errorf("a connection was closed with %d of %d requests unanswered", several-answered, several)
			case errors.Is(err, syscall.ECONNRESET):
				l.closed.Add(1)
				l.unread.Add(1)
				return nil
			case err != nil:
				return fmt.Errorf("a connection: %w", err)
			}
			l.bare.Add(1)
		}
		pause(loaded, 20*time.Millisecond)
	}
	return nil
}
