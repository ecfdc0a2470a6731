package api

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/daemontest"
	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/server"
)

// connectAs connects as a uid of the host, on a thread that ends with the
// connection.
func (f *fixture) connectAs(uid int) net.Conn {
	f.t.Helper()
	type dialled struct {
		nc  net.Conn
		err error
	}
	got := make(chan dialled)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
			got <- dialled{nil, errno}
			return
		}
		nc, err := net.Dial("unix", f.socket())
		got <- dialled{nc, err}
	}()
	d := <-got
	if d.err != nil {
		f.t.Fatal(d.err)
	}
	f.t.Cleanup(func() { d.nc.Close() })
	return d.nc
}

// journalled returns the lines that reach the journal without --debug.
func (f *fixture) journalled(with string) (lines []string) {
	for line := range strings.Lines(f.log.String()) {
		if !strings.Contains(line, "level=DEBUG") && strings.Contains(line, with) {
			lines = append(lines, line)
		}
	}
	return lines
}

// flood sends lines until n of them are answered, on as many connections as
// that takes.
func (f *fixture) flood(line string, answers int) {
	f.t.Helper()
	b := make([]byte, 4<<10)
	for answers > 0 {
		nc, err := net.Dial("unix", f.socket())
		if err != nil {
			f.t.Fatal(err)
		}
		for answers > 0 {
			if _, err := nc.Write([]byte(line + "\n")); err != nil {
				break
			}
			n, err := nc.Read(b)
			if err != nil {
				break
			}
			answers -= strings.Count(string(b[:n]), "\n")
		}
		nc.Close()
	}
}

// Whatever refused requests one caller sends, they cause few lines in the
// journal; lines about other callers and about evidence are still written.
func TestFloodInTheJournal(t *testing.T) {
	for name, line := range map[string]string{
		"no method": `{"jsonrpc":"2.0","id":1,"method":"x"}`,
		"no JSON":   "x",
		"denied":    `{"jsonrpc":"2.0","id":1,"method":"ExtendMeasurement","params":{"domain":"d","operation":"o","content":"c"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			begun := time.Now()
			f.flood(line, 2000)
			lines, seconds := len(f.journalled("refus")), int(time.Since(begun)/time.Second)+1
			if lines == 0 || lines > 10+2*seconds { // a slow machine writes more
				t.Errorf("%d lines in the journal within %d s", lines, seconds)
			}
			if os.Geteuid() == 0 {
				nc := f.connectAs(12345)
				fmt.Fprintf(nc, "%s\n", line)
				nc.Read(make([]byte, 4<<10))
				if other := f.journalled(`"uid 12345"`); len(other) != 1 {
					t.Errorf("another caller's refusal: %q", other)
				}
			}
			daemontest.Eventually(t, "the rate allows evidence again", func() bool {
				_, err := f.evidence()
				return err == nil
			})
			if len(f.journalled("evidence given")) != 1 {
				t.Error("no line about evidence")
			}
			f.stop()
			omitted, all := 0, f.journalled("and more messages")
			for _, l := range all {
				n := 0
				fmt.Sscanf(l[strings.LastIndex(l, "more="):], "more=%d", &n)
				omitted += n
			}
			if len(all) == 0 || omitted < 100 {
				t.Errorf("%d lines were left out by %q", omitted, all)
			}
		})
	}
}

// Callers without an identity have an account for each uid, but few accounts in
// all.
func TestStrangersPayToo(t *testing.T) {
	f := newFixture(t)
	as := f.api.callers.accounts
	for i := range 1000 {
		as.release(as.useStranger(fmt.Sprintf("%s uid %d", unattributed, i)))
	}
	if n := len(as.byKey); n > maxStrangers+1 {
		t.Errorf("%d accounts", n)
	}
	server, client := unixPair(t, f.dir)
	defer client.Close()
	ctx, release := f.api.callers.stranger(t.Context(), server, rpc.Unattributed("no one"))
	defer release()
	limited := 0
	for range 2 * f.config.Limits.RequestsBurst {
		if err := f.api.callers.before(ctx, ""); err != nil {
			limited++
		}
		f.api.callers.after(ctx, "", 0, rpc.Unattributed("no one"), nil)
	}
	if limited == 0 {
		t.Error("no rate for them")
	}
	if lines := len(f.journalled("no one")); lines == 0 || lines > 10+5 {
		t.Errorf("%d lines", lines)
	}
}

func unixPair(t *testing.T, dir string) (server, client *net.UnixConn) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: dir + "/pair"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr)); err != nil {
		t.Fatal(err)
	}
	if server, err = l.AcceptUnix(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return server, client
}

// A quote whose reply isn't sent is not charged.
func TestUnsentIsNotCharged(t *testing.T) {
	f := newFixture(t, func(c *config.Config) { c.Limits.QuotesBurst, c.Limits.QuotesPerMinute = 1, 0.001 })
	s := f.somebody(1)
	ask := map[string]func() (any, error){
		"evidence": func() (any, error) {
			return f.api.evidence(context.Background(), s, rpc.EvidenceParams{Nonce: nonce})
		},
		"form": func() (any, error) {
			return f.api.evidence(context.Background(), s, rpc.EvidenceParams{Nonce: nonce, Format: "cmw"})
		},
		"report": func() (any, error) {
			return f.api.ccReport(context.Background(), s, rpc.CCReportParams{Nonce: nonce})
		},
	}
	for name, f := range ask {
		result, err := f()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := f(); err == nil {
			t.Errorf("%s: the second is not limited", name)
		}
		result.(server.Unsent).Unsent()
	}
}
