package sim

import (
	"bufio"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cima-project/cima/hw"
)

// extendCommand makes this program the process that TestCallerIsKilled kills.
const extendCommand = "extend-forever"

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == extendCommand {
		extendForever(os.Args[2])
	}
	goleak.VerifyTestMain(m)
}

// serve runs a machine behind a socket until the test ends.
func serve(t *testing.T, config Config) (*Machine, *TD) {
	t.Helper()
	dir, err := os.MkdirTemp("", "cima-sim-") // short, because a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	m := bootMachine(t, config)
	path := filepath.Join(dir, "td.sock")
	listener, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, listener, m) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		os.RemoveAll(dir)
	})
	td, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	return m, td
}

func TestConcurrentCallers(t *testing.T) {
	m, td := serve(t, Config{})
	const callers, each = 8, 50
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range each {
				if err := td.Extend(context.Background(), hw.Digest{42}); err != nil {
					t.Error(err)
				}
				if _, err := td.Registers(context.Background()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	var want hw.Digest
	for range callers * each {
		want = want.Extend(hw.Digest{42})
	}
	if got := m.read().RTMR[3]; got != want {
		t.Errorf("RTMR3 %s, want %d extends: %s", got, callers*each, want)
	}
}

// extendForever extends with the digest 1 until it is killed, and prints a line
// for each acknowledged extend.
func extendForever(path string) {
	td, err := Dial(path)
	for err == nil {
		if err = td.Extend(context.Background(), hw.Digest{1}); err == nil {
			os.Stdout.WriteString("done\n")
		}
	}
	os.Stderr.WriteString(err.Error())
	os.Exit(1)
}

// A caller that is killed at any moment leaves registers after a number of
// complete extends: all acknowledged ones, and at most one more.
func TestCallerIsKilled(t *testing.T) {
	m, td := serve(t, Config{})
	var before, known int
	for round := range 5 {
		cmd := exec.Command(os.Args[0], extendCommand, td.path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; n < 20+round && lines.Scan(); n++ {
			known++
		}
		cmd.Process.Kill()
		for lines.Scan() {
			known++
		}
		cmd.Wait()
		time.Sleep(20 * time.Millisecond) // by now its last request is answered
		after := countExtends(t, m.read().RTMR[3], hw.Digest{1}, known+5)
		if after < known || after > known+round+1 || after < before {
			t.Fatalf("round %d: %d extends, %d before, %d known", round, after, before, known)
		}
		before = after
	}
	if _, err := td.Quote(context.Background(), hw.ReportData{}); err != nil {
		t.Errorf("the next caller: %v", err)
	}
}

func countExtends(t *testing.T, register, digest hw.Digest, most int) int {
	t.Helper()
	var value hw.Digest
	for n := 0; n <= most; n++ {
		if value == register {
			return n
		}
		value = value.Extend(digest)
	}
	t.Fatalf("RTMR3 %s is no number of whole extends up to %d", register, most)
	return 0
}

// Half a request has no effect.
func TestHalfARequest(t *testing.T) {
	m, td := serve(t, Config{})
	start := m.read()
	for _, text := range []string{"", `{"op":"extend"`, `{"op":"extend","data":"` + strings.Repeat("A", 64) + `"}`, strings.Repeat("x", maxRequest+1)} {
		conn, err := net.Dial("unix", td.path)
		if err != nil {
			t.Fatal(err)
		}
		conn.Write([]byte(text))
		conn.(*net.UnixConn).CloseWrite()
		if n, _ := conn.Read(make([]byte, 1)); n != 0 {
			t.Errorf("%.40q is answered", text)
		}
		conn.Close()
	}
	if m.read() != start {
		t.Error("a register changed")
	}
	conn, err := net.Dial("unix", td.path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.Write([]byte(`{"op":"extend","data":"AAAA"}` + "\n"))
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || !strings.Contains(line, "error") || m.read() != start {
		t.Errorf("an extend of three bytes: %q, %v", line, err)
	}
}
