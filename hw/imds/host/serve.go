package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"

	"github.com/cima-project/cima/hw/imds"
)

// Bounds of the service. cimad asks once, and again only after a failure.
const (
	maxCallers = 4
	callTime   = 30 * time.Second
	idleTime   = time.Minute
)

// Main answers on the one socket that the service manager handed over, until nobody has
// asked for a minute. It returns the exit code.
func Main(stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	listener, err := inherited()
	if err == nil {
		err = serve(ctx, listener, newHost(service), idleTime)
	}
	if err != nil {
		fmt.Fprintf(stderr, "cima-imds: %v\n", err)
		return 1
	}
	return 0
}

func inherited() (*net.UnixListener, error) {
	files := activation.Files(true)
	if len(files) != 1 {
		return nil, errors.New("it takes one socket of the service manager's: start cima-imds.socket")
	}
	listener, err := net.FileListener(files[0])
	files[0].Close()
	if err != nil {
		return nil, err
	}
	unix, is := listener.(*net.UnixListener)
	if !is {
		listener.Close()
		return nil, errors.New("the service manager's socket must be a Unix socket")
	}
	return unix, nil
}

// serve answers until ctx ends, or until nobody has come for the idle time.
func serve(ctx context.Context, listener *net.UnixListener, h *host, idle time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	var callers sync.WaitGroup
	defer callers.Wait()
	defer cancel()
	defer listener.Close()
	defer context.AfterFunc(ctx, func() { listener.SetDeadline(time.Unix(1, 0)) })()
	slots := make(chan struct{}, maxCallers)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		listener.SetDeadline(time.Now().Add(idle))
		if ctx.Err() != nil {
			return nil
		}
		conn, err := listener.Accept()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			return err
		}
		callers.Go(func() {
			defer func() { <-slots }()
			defer conn.Close()
			call(ctx, conn, h)
		})
	}
}

// call answers the one request of a connection. What is no request gets no answer.
func call(ctx context.Context, conn net.Conn, h *host) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	var q imds.Request
	if imds.Read(conn, &q) != nil {
		return
	}
	_ = imds.Write(conn, h.answer(ctx, q)) // a caller that has gone needs none
}
