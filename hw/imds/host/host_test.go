package host

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json/v2"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cima-project/cima/hw/imds"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// azure plays the host: text is the answer to all, where it is not empty.
type azure struct {
	text   string
	status int
}

func (a *azure) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/elsewhere":
		io.WriteString(w, `{"quote":"QUFB"}`)
		return
	case a.status != 0:
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(a.status)
	}
	if a.text != "" {
		io.WriteString(w, a.text)
		return
	}
	pemOf := func(names ...string) (text string) {
		for _, name := range names {
			text += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte(name)}))
		}
		return text
	}
	switch {
	case r.Method == "POST" && r.URL.Path == "/acc/tdquote":
		var q struct {
			Report string `json:"report"`
		}
		body, _ := io.ReadAll(r.Body)
		json.Unmarshal(body, &q)
		report, _ := base64.RawURLEncoding.DecodeString(q.Report)
		fmt.Fprintf(w, `{"quote":%q}`, base64.URLEncoding.EncodeToString(append([]byte("quote of "), report...)))
	case r.Method == "GET" && r.URL.Path == "/metadata/THIM/amd/certification" && r.Header.Get("Metadata") == "true":
		text, _ := json.Marshal(map[string]string{"vcekCert": pemOf("VCEK"), "certificateChain": pemOf("ASK", "ARK"), "tcbm": "00"})
		w.Write(text)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// started is a client of a service before this host, and the service's end.
func started(t *testing.T, a *azure, idle time.Duration) (imds.Client, <-chan error) {
	t.Helper()
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	dir, err := os.MkdirTemp("", "cima-imds-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		ended <- serve(ctx, listener, newHost(server.URL), idle)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return imds.Client{Path: path}, ended
}

func TestAsk(t *testing.T) {
	c, _ := started(t, &azure{}, time.Minute)
	report := bytes.Repeat([]byte{0xfb}, 1024)
	if quote, err := c.Quote(t.Context(), report); err != nil || string(quote) != "quote of "+string(report) {
		t.Errorf("%q, %v", quote, err)
	}
	if chain, err := c.Certificates(t.Context()); err != nil || len(chain) != 3 || string(chain[0]) != "VCEK" || string(chain[2]) != "ARK" {
		t.Errorf("%q, %v", chain, err)
	}
	for _, size := range []int{0, 1, 1023, 1025} {
		if quote, err := c.Quote(t.Context(), make([]byte, size)); err == nil {
			t.Errorf("a report of %d bytes is quoted: %q", size, quote)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Quote(ctx, report); err == nil {
		t.Error("a caller that gave up is answered")
	}
}

// Whatever the host says, the service answers with an error or with what it is for.
func TestHostile(t *testing.T) {
	for name, a := range map[string]*azure{
		"an error":        {status: 500, text: "oops"},
		"a redirection":   {status: 302},
		"no JSON":         {text: "<html>"},
		"too much":        {text: `{"quote":"` + strings.Repeat("A", maxAnswer) + `"}`},
		"no base64":       {text: `{"quote":"*","vcekCert":"*","certificateChain":1}`},
		"nothing":         {text: `{}`},
		"four":            {text: `{"vcekCert":` + string(must(json.Marshal(strings.Repeat(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})), 4)))) + `}`},
		"a private key":   {text: `{"vcekCert":` + string(must(json.Marshal(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}))))) + `}`},
		"control\x00text": {status: 200, text: "{\"\x1b[2J"},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := started(t, a, time.Minute)
			if quote, err := c.Quote(t.Context(), make([]byte, 1024)); err == nil {
				t.Errorf("a quote: %q", quote)
			} else if strings.ContainsAny(err.Error(), "\x00\x1b\n") {
				t.Errorf("it says %q", err)
			}
			if chain, err := c.Certificates(t.Context()); err == nil {
				t.Errorf("certificates: %q", chain)
			}
		})
	}
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// What is no request gets no answer, and costs the next caller nothing.
func TestNoRequest(t *testing.T) {
	c, _ := started(t, &azure{}, time.Minute)
	for _, text := range []string{"\n", "{}x\n", `{"url":"http://elsewhere.invalid/"}` + "\n", strings.Repeat("x", 65<<10), `{"certificates":`} {
		conn, err := net.Dial("unix", c.Path)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, text)
		conn.(*net.UnixConn).CloseWrite()
		if n, _ := conn.Read(make([]byte, 1)); n != 0 {
			t.Errorf("%.30q is answered", text)
		}
		conn.Close()
	}
	if _, err := c.Certificates(t.Context()); err != nil {
		t.Error(err)
	}
}

// The service ends when nobody asks.
func TestIdle(t *testing.T) {
	_, ended := started(t, &azure{}, time.Millisecond)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(`{"quote":"QUFB"}`)
	f.Add(`{"vcekCert":"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}`)
	f.Fuzz(func(t *testing.T, text string) {
		h := newHost("http://host.invalid")
		h.http.Transport = said(text)
		if r := h.answer(t.Context(), imds.Request{Report: make([]byte, 1024)}); (r.Error == "") == (len(r.Quote) == 0) {
			t.Errorf("%+v", r)
		}
		if r := h.answer(t.Context(), imds.Request{Certificates: true}); (r.Error == "") == (len(r.Certificates) == 0) {
			t.Errorf("%+v", r)
		}
	})
}

// said is a host that says this.
type said string

func (s said) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(string(s))), Request: r}, nil
}
