package hw_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-tdx-guest/abi"
	pb "github.com/google/go-tdx-guest/proto/tdx"

	"github.com/cima-project/cima/hw"
)

func TestQuoteByConfigfs(t *testing.T) {
	k := newKernel(t)
	data := hw.ReportData{0: 1, 63: 2}
	quote, err := k.tdx().Quote(context.Background(), data)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := abi.QuoteToProto(quote)
	if err != nil {
		t.Fatal(err)
	}
	if got := parsed.(*pb.QuoteV4).GetTdQuoteBody().GetReportData(); !bytes.Equal(got, data[:]) {
		t.Errorf("report data %x", got)
	}
	if n := k.left(); n != 0 {
		t.Errorf("%d entries are left", n)
	}
}

// A host may pad a quote (GCP: to 8000 bytes); the padding is cut off, by the
// length in the quote.
func TestQuoteIsCutToItsLength(t *testing.T) {
	k := newKernel(t)
	var honest int
	k.reshape = func(raw []byte) []byte { honest = len(raw); return append(raw, make([]byte, 8000-len(raw))...) }
	quote, err := k.tdx().Quote(context.Background(), hw.ReportData{})
	if err != nil || len(quote) != honest {
		t.Errorf("quote of %d bytes (%v), want %d", len(quote), err, honest)
	}
}

func TestQuotesThatCantBe(t *testing.T) {
	for name, reshape := range map[string]func([]byte) []byte{
		"empty":                  func(raw []byte) []byte { return nil },
		"cut in its header":      func(raw []byte) []byte { return raw[:20] },
		"cut in its body":        func(raw []byte) []byte { return raw[:300] },
		"cut in its signature":   func(raw []byte) []byte { return raw[:len(raw)-1] },
		"over other report data": func(raw []byte) []byte { raw[48+520]++; return raw },
		"of version 3":           func(raw []byte) []byte { raw[0] = 3; return raw },
		"of SGX":                 func(raw []byte) []byte { raw[4] = 0; return raw },
		"without signature":      func(raw []byte) []byte { copy(raw[632:], make([]byte, 4)); return raw },
		"with a huge signature":  func(raw []byte) []byte { copy(raw[632:], "\xff\xff\xff\xff"); return raw },
	} {
		k := newKernel(t)
		k.reshape = reshape
		_, err := k.tdx().Quote(context.Background(), hw.ReportData{})
		if !errors.Is(err, hw.ErrMalformed) {
			t.Errorf("quote %s: %v", name, err)
		}
		if k.left() != 0 {
			t.Errorf("quote %s: entry left", name)
		}
	}
}

// Every error that the kernel documents reaches the caller with its errno and
// advice, leaves no entry, and the next quote succeeds.
func TestErrorsOfConfigfs(t *testing.T) {
	for _, test := range []struct {
		place string
		errno syscall.Errno
		is    error
	}{
		{"read outblob", syscall.EBUSY, hw.ErrBusy},
		{"read outblob", syscall.ETIMEDOUT, nil},
		{"read outblob", syscall.EIO, nil},
		{"read outblob", syscall.EINTR, nil},
		{"read outblob", syscall.EINVAL, nil},
		{"read outblob", syscall.EFBIG, nil},
		{"read outblob", syscall.ENXIO, hw.ErrUnsupported},
		{"write inblob", syscall.EBUSY, hw.ErrBusy},
		{"write inblob", syscall.EINVAL, nil},
		{"read generation", syscall.EIO, nil},
		{"read provider", syscall.ENXIO, hw.ErrUnsupported},
		{"mkdir", syscall.ENXIO, hw.ErrUnsupported},
		{"mkdir", syscall.EACCES, fs.ErrPermission},
		{"mkdir", syscall.ENOMEM, nil},
	} {
		t.Run(test.place+" "+test.errno.Error(), func(t *testing.T) {
			k := newKernel(t)
			tdx := k.tdx()
			k.fail[test.place] = test.errno
			_, err := tdx.Quote(context.Background(), hw.ReportData{})
			e, ok := errors.AsType[*hw.Error](err)
			if !ok || e.Errno != test.errno || e.Op != hw.OpQuote || e.Path == "" || e.Advice == "" {
				t.Fatalf("error %#v", err)
			}
			if !errors.Is(err, test.errno) || test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("%v is not %v and %v", err, test.errno, test.is)
			}
			if k.left() != 0 {
				t.Error("an entry is left")
			}
			clear(k.fail)
			if _, err := tdx.Quote(context.Background(), hw.ReportData{}); err != nil {
				t.Errorf("the next quote: %v", err)
			}
		})
	}
}

func TestLappedGeneration(t *testing.T) {
	k := newKernel(t)
	k.lapped = true
	_, err := k.tdx().Quote(context.Background(), hw.ReportData{})
	if !errors.Is(err, hw.ErrBusy) || !errors.Is(err, syscall.EBUSY) {
		t.Errorf("quote of an entry that another writer changed: %v", err)
	}
	if errno, _ := errors.AsType[syscall.Errno](err); errno != syscall.EBUSY {
		t.Errorf("no system call failed, and the errno found in %q is %d, not EBUSY", err, errno)
	}
}

func TestProviders(t *testing.T) {
	for _, provider := range []string{"", "sev_guest", "arm_cca_guest"} {
		k := newKernel(t)
		k.provider = provider
		if _, err := k.tdx().Quote(context.Background(), hw.ReportData{}); !errors.Is(err, hw.ErrUnsupported) {
			t.Errorf("provider %q: %v", provider, err)
		}
		if k.left() != 0 {
			t.Error("an entry is left")
		}
	}
}

// A caller gives up at its deadline; the quote continues, no other quote starts
// before its end, and its entry is removed.
func TestQuoteIsAbandonedNotInterrupted(t *testing.T) {
	k := newKernel(t)
	tdx := k.tdx()
	k.finish = make(chan struct{})
	if _, err := tdx.Quote(k.untilAQuoteBegins(t), hw.ReportData{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if k.left() != 1 {
		t.Error("the quote in flight was interrupted")
	}
	close(k.finish)
	if _, err := tdx.Quote(context.Background(), hw.ReportData{}); err != nil {
		t.Errorf("the next caller: %v", err)
	}
	if err := tdx.Drain(context.Background()); err != nil {
		t.Error(err)
	}
	if k.most != 1 || k.made != 2 || k.left() != 0 {
		t.Errorf("%d quotes, %d at once, %d entries left", k.made, k.most, k.left())
	}
}

func TestDrainWaitsForTheQuoteInFlight(t *testing.T) {
	k := newKernel(t)
	tdx := k.tdx()
	k.finish = make(chan struct{})
	ctx := k.untilAQuoteBegins(t)
	if _, err := tdx.Quote(ctx, hw.ReportData{}); err == nil {
		t.Fatal("it was not given up")
	}
	if err := tdx.Drain(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("drained at once: %v", err)
	}
	close(k.finish)
	if err := tdx.Drain(context.Background()); err != nil || k.left() != 0 {
		t.Errorf("drained with %d entries left: %v", k.left(), err)
	}
}

func TestOneQuoteInFlight(t *testing.T) {
	k := newKernel(t)
	tdx := k.tdx()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := tdx.Quote(context.Background(), hw.ReportData{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if k.most != 1 || k.made != 20 {
		t.Errorf("%d quotes, %d at once", k.made, k.most)
	}
}

// The first quote of a process removes the entries of a process that was killed
// during a quote; entries of a living process and of other programs stay.
func TestEntriesOfTheDead(t *testing.T) {
	k := newKernel(t)
	for _, name := range []string{"cima-4194303-X", "cima-1-X", "cima-x", "cima-0-X", "somebody-4194303-X"} {
		k.entries[name] = &entry{}
	}
	if _, err := k.tdx().Quote(context.Background(), hw.ReportData{}); err != nil {
		t.Fatal(err)
	}
	if k.entries["cima-4194303-X"] != nil || len(k.entries) != 4 {
		t.Errorf("entries left: %v", k.entries)
	}
}

// No signal reaches the thread that waits for the host: neither the Go
// runtime's SIGURG nor systemd's SIGTERM.
func TestNoSignalReachesAQuote(t *testing.T) {
	k := newKernel(t)
	if _, err := k.tdx().Quote(context.Background(), hw.ReportData{}); err != nil {
		t.Fatal(err)
	}
	mask, err := strconv.ParseUint(k.blocked, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	for _, signal := range []syscall.Signal{syscall.SIGURG, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGCHLD, syscall.SIGALRM} {
		if mask>>(signal-1)&1 == 0 {
			t.Errorf("%v is not blocked (mask %x)", signal, mask)
		}
	}
}
