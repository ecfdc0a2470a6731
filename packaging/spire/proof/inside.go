package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"
)

// Where things lie in a container.
const (
	apiInside = "/spire/api.sock"
	meeting   = "/meet/mtls.sock"
)

// inside is what the program does in a container; false: it isn't asked to.
func inside(words []string) bool {
	switch words[0] {
	case "stay":
		stay()
	case "once":
		once()
	case "serve":
		serve()
	case "dial":
		dial()
	case "lend":
		lend()
	case "lender":
		lender()
	case "nap":
		time.Sleep(time.Hour)
	default:
		return false
	}
	return true
}

// fetch prints one line: what the Workload API gives.
func fetch(limit time.Duration, options ...workloadapi.ClientOption) bool {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	options = append([]workloadapi.ClientOption{workloadapi.WithAddr("unix://" + apiInside)}, options...)
	got, err := workloadapi.FetchX509SVIDs(ctx, options...)
	if err != nil {
		fmt.Println("none:", strings.ReplaceAll(err.Error(), "\n", " "))
		return false
	}
	var ids []string
	for _, s := range got {
		ids = append(ids, s.ID.String())
	}
	fmt.Println("SVID", strings.Join(ids, " "))
	return true
}

// stay asks again and again, until it is killed. At SIGUSR1 it begins a process that sleeps.
func stay() {
	begin := make(chan os.Signal, 16)
	signal.Notify(begin, syscall.SIGUSR1)
	var napping *exec.Cmd
	go func() {
		for range begin {
			if napping != nil {
				napping.Process.Kill()
				napping.Wait()
			}
			napping = exec.Command("/proof", "nap")
			napping.Start()
		}
	}()
	for {
		fetch(8 * time.Second)
		time.Sleep(500 * time.Millisecond)
	}
}

// once asks until it has an identity, and says how long that took. An hour is longer than
// the proof.
func once() {
	begun := time.Now()
	for time.Since(begun) < time.Hour {
		if fetch(time.Minute) {
			fmt.Println("took", time.Since(begun).Milliseconds())
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// lend has a child connect to the Workload API and hand the connection over; the child
// ends at SIGUSR1, and at SIGUSR2 the connection is used.
func lend() {
	ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		fmt.Println("none:", err)
		return
	}
	child := exec.Command("/proof", "lender")
	child.ExtraFiles = []*os.File{os.NewFile(uintptr(ends[1]), "pair")}
	told := make(chan os.Signal, 16)
	signal.Notify(told, syscall.SIGUSR1, syscall.SIGUSR2)
	if err := child.Start(); err != nil {
		fmt.Println("none:", err)
		return
	}
	space := make([]byte, syscall.CmsgSpace(4))
	_, n, _, _, err := syscall.Recvmsg(ends[0], make([]byte, 1), space, 0)
	var fds []int
	if err == nil {
		var m []syscall.SocketControlMessage
		if m, err = syscall.ParseSocketControlMessage(space[:n]); err == nil && len(m) == 1 {
			fds, err = syscall.ParseUnixRights(&m[0])
		}
	}
	if err != nil || len(fds) != 1 {
		fmt.Println("none: no connection was lent:", err)
		return
	}
	conn, err := net.FileConn(os.NewFile(uintptr(fds[0]), "conn"))
	if err != nil {
		fmt.Println("none:", err)
		return
	}
	fmt.Println("lent")
	for s := range told {
		if s == syscall.SIGUSR1 {
			child.Process.Kill()
			child.Wait()
			fmt.Println("gone")
			continue
		}
		fetch(10*time.Second, workloadapi.WithDialOptions(grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			if conn == nil {
				return nil, errors.New("the lent connection was used")
			}
			defer func() { conn = nil }()
			return conn, nil
		})))
		fmt.Println("used")
	}
}

func lender() {
	conn, err := net.Dial("unix", apiInside)
	if err != nil {
		return
	}
	f, err := conn.(*net.UnixConn).File()
	if err != nil {
		return
	}
	// The server looks who connects when it takes the connection, and reads first.
	time.Sleep(time.Second)
	syscall.Sendmsg(3, []byte{1}, syscall.UnixRights(int(f.Fd())), nil, 0)
	time.Sleep(time.Hour)
}

// serve greets, by mutual TLS, the workload "caller" alone.
func serve() {
	source, err := workloadapi.NewX509Source(context.Background(), workloadapi.WithClientOptions(workloadapi.WithAddr("unix://"+apiInside)))
	if err != nil {
		fmt.Println("none:", err)
		return
	}
	os.Remove(meeting)
	l, err := net.Listen("unix", meeting)
	if err != nil {
		fmt.Println("none:", err)
		return
	}
	config := tlsconfig.MTLSServerConfig(source, source, tlsconfig.AuthorizeID(spiffeid.RequireFromString("spiffe://cima.test/caller")))
	fmt.Println("serving")
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		s := tls.Server(c, config)
		fmt.Fprintln(s, "hello, caller")
		s.Close()
	}
}

// dial asks the workload "greeter" by mutual TLS.
func dial() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	source, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(workloadapi.WithAddr("unix://"+apiInside)))
	if err != nil {
		fmt.Println("none:", err)
		return
	}
	c, err := net.Dial("unix", meeting)
	if err != nil {
		fmt.Println("none:", err)
		return
	}
	s := tls.Client(c, tlsconfig.MTLSClientConfig(source, source, tlsconfig.AuthorizeID(spiffeid.RequireFromString("spiffe://cima.test/greeter"))))
	line, err := bufio.NewReader(s).ReadString('\n')
	if err != nil {
		fmt.Println("refused:", err)
		return
	}
	fmt.Print("heard ", line)
}
