package hw_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cima-project/cima/hw"
)

func TestQuoteByQGS(t *testing.T) {
	k := newKernel(t)
	k.serveQGS(func(_ net.Conn, report []byte) []byte {
		return qgsAnswer(0, []byte("an id of the key"), k.quoteReport(report))
	})
	tdx := k.tdx()
	var wg sync.WaitGroup
	for i := range 8 { // no caller waits for another
		wg.Go(func() {
			if _, err := tdx.Quote(context.Background(), hw.ReportData{byte(i)}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if k.made != 0 {
		t.Errorf("%d quotes by configfs-tsm", k.made)
	}
}

func TestQGSByteByByte(t *testing.T) {
	k := newKernel(t)
	k.serveQGS(func(conn net.Conn, report []byte) []byte {
		message := qgsAnswer(0, nil, k.quoteReport(report))
		whole := append(binary.BigEndian.AppendUint32(nil, uint32(len(message))), message...)
		for len(whole) > 0 {
			n := min(len(whole), 97)
			conn.Write(whole[:n])
			whole = whole[n:]
			if len(whole) < 300 {
				time.Sleep(time.Millisecond)
			}
		}
		return nil
	})
	if _, err := k.tdx().Quote(context.Background(), hw.ReportData{1}); err != nil {
		t.Error(err)
	}
}

func TestErrorsOfQGS(t *testing.T) {
	patch := func(at int, value uint32) func([]byte) []byte {
		return func(b []byte) []byte { binary.LittleEndian.PutUint32(b[at:], value); return b }
	}
	for name, reshape := range map[string]func([]byte) []byte{
		"other version":       func(b []byte) []byte { b[0] = 2; return b },
		"other type":          patch(4, 0),
		"size too small":      patch(8, 24),
		"size too large":      patch(8, 1<<31),
		"id too large":        patch(16, 1<<31),
		"sizes that overflow": func(b []byte) []byte { return patch(16, 0xffffffff)(patch(20, 24)(b)) },
		"quote too large":     patch(20, 1<<20),
		"quote too small":     patch(20, 100),
		"no quote":            func(b []byte) []byte { return qgsAnswer(0, nil, nil) },
		"header only":         func(b []byte) []byte { return patch(8, 16)(b[:16]) },
		"less than a header":  func(b []byte) []byte { return b[:15] },
		"endless":             func(b []byte) []byte { return make([]byte, 1<<20) },
		"other report data":   func(b []byte) []byte { b[24+48+520]++; return b },
		"garbage for a quote": func(b []byte) []byte { return qgsAnswer(0, nil, []byte("garbage")) },
	} {
		t.Run(name, func(t *testing.T) {
			k := newKernel(t)
			k.serveQGS(func(_ net.Conn, report []byte) []byte { return reshape(qgsAnswer(0, nil, k.quoteReport(report))) })
			_, err := k.tdx().Quote(context.Background(), hw.ReportData{})
			if e, ok := errors.AsType[*hw.Error](err); !ok || !errors.Is(err, hw.ErrMalformed) || e.Op != hw.OpQuote || e.Path != "vsock:2:4050" {
				t.Errorf("error %v", err)
			}
			if k.made != 0 {
				t.Error("a bad answer is no reason to take another way")
			}
		})
	}
}

func TestErrorCodesOfQGS(t *testing.T) {
	for code, text := range map[uint32]string{0x12001: "unexpected", 0x12002: "memory", 0x12003: "parameter", 0x12007: "code", 0x12008: "0x12008", 0xffffffff: "0xffffffff"} {
		k := newKernel(t)
		k.serveQGS(func(net.Conn, []byte) []byte { return qgsAnswer(code, nil, nil) })
		_, err := k.tdx().Quote(context.Background(), hw.ReportData{})
		if e, ok := errors.AsType[*hw.QGSError](err); !ok || e.Code != code || !strings.Contains(err.Error(), text) {
			t.Errorf("code %#x: %v", code, err)
		}
	}
}

func TestQGSHangsUp(t *testing.T) {
	for _, sent := range []int{0, 2, 4, 100} {
		k := newKernel(t)
		k.serveQGS(func(conn net.Conn, report []byte) []byte {
			message := qgsAnswer(0, nil, k.quoteReport(report))
			conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(message))), message...)[:sent])
			return nil
		})
		if _, err := k.tdx().Quote(context.Background(), hw.ReportData{}); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("after %d bytes: %v", sent, err)
		}
	}
}

// An announced length is not trusted: no memory is allocated and no data are
// awaited for it.
func TestQGSAnnouncesTooMuch(t *testing.T) {
	k := newKernel(t)
	k.serveQGS(func(conn net.Conn, _ []byte) []byte {
		conn.Write([]byte{0x7f, 0xff, 0xff, 0xff})
		conn.Read(make([]byte, 1)) // until the caller hangs up
		return nil
	})
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err := k.tdx().Quote(ctx, hw.ReportData{}); !errors.Is(err, hw.ErrMalformed) {
		t.Errorf("error %v", err)
	}
}

func TestQGSIsSilent(t *testing.T) {
	k := newKernel(t)
	gone := make(chan bool)
	k.serveQGS(func(conn net.Conn, _ []byte) []byte {
		conn.Read(make([]byte, 1)) // until the caller hangs up
		close(gone)
		return nil
	})
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := k.tdx().Quote(ctx, hw.ReportData{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	<-gone
}

// If nothing listens on the configured port (libtdx_attest installs one),
// quotes still come from configfs-tsm.
func TestNoQGSBehindThePort(t *testing.T) {
	k := newKernel(t)
	k.put("etc/tdx-attest.conf", []byte("port=4050"))
	if _, err := k.tdx().Quote(context.Background(), hw.ReportData{}); err != nil || k.made != 1 {
		t.Errorf("%d quotes by configfs-tsm, %v", k.made, err)
	}
	k.remove("sys/kernel")
	_, err := k.tdx().Quote(context.Background(), hw.ReportData{})
	if e, ok := errors.AsType[*hw.Error](err); !ok || e.Errno != syscall.ENODEV || e.Path != "vsock:2:4050" {
		t.Errorf("without configfs-tsm: %v", err)
	}
}

// The file is read as Intel's libtdx_attest reads it: what it passes over stops nothing
// here, and is told.
func TestAttestConf(t *testing.T) {
	for text, want := range map[string]struct {
		vsock bool
		told  string
	}{
		"":                             {false, ""},
		"#port=x\n\n  # port=1\n":      {false, ""},
		"port=4050":                    {true, ""},
		" \tport =\t4050 \r\n":         {true, ""},
		"port=x\nport=4050\n":          {true, `line 1, "port=x"`},
		"port=-1\nPORT=5\nport=4050\n": {true, `line 2, "PORT=5"`},
		"port=4050 # ours\n":           {false, "line 1"},
		"port=12345678901\nport=4050":  {true, "line 1"}, // eleven digits
		"port=4294967296\nport=4050":   {false, "no port is 4294967296"},
		"port=0\nport=4050":            {false, ""},
		"port=4050\nport=5\nrubbish\n": {true, ""}, // nobody reads on
		"ports=4050\n":                 {false, `"ports=4050"`},
		strings.Repeat("x\n", 5):       {false, `line 3, "x"`},
	} {
		k := newKernel(t)
		var asked atomic.Int32
		k.serveQGS(func(_ net.Conn, report []byte) []byte { asked.Add(1); return qgsAnswer(0, nil, k.quoteReport(report)) })
		k.put("etc/tdx-attest.conf", []byte(text))
		if _, err := k.tdx().Quote(context.Background(), hw.ReportData{}); err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if (asked.Load() == 1) != want.vsock || (k.made == 1) == want.vsock {
			t.Errorf("%q: %d quotes by vsock, %d by configfs-tsm", text, asked.Load(), k.made)
		}
		var found string
		for _, c := range k.tdx().Probe(context.Background()).Checks {
			if c.Name == "QGS by vsock" {
				found = c.Found
			}
		}
		if told := strings.Contains(found, "passed over"); told != (want.told != "") || !strings.Contains(found, want.told) || strings.Contains(found, "line 4") {
			t.Errorf("%q: told %q", text, found)
		}
	}
}
