package kds

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/snp"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

// The service is asked where AMD's manual says, and what it doesn't give is an error of the network.
func TestList(t *testing.T) {
	var asked []string
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.Path)
		w.WriteHeader(status)
		w.Write([]byte{0x30, 0, 0xff})
	}))
	defer server.Close()
	s := Service{API: server.URL + "/"}
	for _, vlek := range []bool{false, true} {
		if der, err := s.List(t.Context(), snp.Turin, vlek); err != nil || len(der) != 3 {
			t.Errorf("%x, %v", der, err)
		}
	}
	if want := []string{"GET /vcek/v1/Turin/crl", "GET /vlek/v1/Turin/crl"}; !slices.Equal(asked, want) {
		t.Errorf("asked for %q, must be %q", asked, want)
	}
	status = http.StatusTooManyRequests
	if _, err := s.List(t.Context(), snp.Milan, false); !is(err) {
		t.Error(err)
	}
	server.Close()
	if _, err := s.List(t.Context(), snp.Milan, false); !is(err) {
		t.Error(err)
	}
}

// A chip's certificate is asked for where AMD's manual says, with the parts of the line's TCB, and then
// what stands above it.
func TestCertificate(t *testing.T) {
	var asked []string
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.RequestURI())
		w.WriteHeader(status)
		w.Write([]byte(r.URL.Path))
	}))
	defer server.Close()
	s := Service{API: server.URL}
	for _, k := range []snp.Key{
		{Line: snp.Milan, Chip: "0a0b", TCB: snp.TCB{4, 0, 0, 0, 0, 0, 24, 219}},
		{Line: snp.Turin, Chip: "0c0d", TCB: snp.TCB{1, 2, 3, 4, 0, 0, 0, 200}},
	} {
		leaf, above, err := s.Certificate(t.Context(), nil, k)
		if err != nil || string(leaf) != "/vcek/v1/"+string(k.Line)+"/"+k.Chip || string(above) != "/vcek/v1/"+string(k.Line)+"/cert_chain" {
			t.Errorf("%s, %s, %v", leaf, above, err)
		}
	}
	if want := []string{
		"/vcek/v1/Milan/0a0b?blSPL=04&teeSPL=00&snpSPL=24&ucodeSPL=219", "/vcek/v1/Milan/cert_chain",
		"/vcek/v1/Turin/0c0d?fmcSPL=01&blSPL=02&teeSPL=03&snpSPL=04&ucodeSPL=200", "/vcek/v1/Turin/cert_chain",
	}; !slices.Equal(asked, want) {
		t.Errorf("asked for %q, must be %q", asked, want)
	}
	status = http.StatusNotFound
	k := snp.Key{Line: snp.Milan, Chip: "0a0b"}
	if _, _, err := s.Certificate(t.Context(), nil, k); !snp.Unknown(err) || is(err) {
		t.Errorf("a chip that is unknown: %v", err)
	}
	for _, status = range []int{http.StatusTooManyRequests, http.StatusInternalServerError} {
		if _, _, err := s.Certificate(t.Context(), nil, k); snp.Unknown(err) || !is(err) {
			t.Errorf("%d: %v", status, err)
		}
	}
}

func is(err error) bool {
	_, is := errors.AsType[*dcap.NetworkError](err)
	return is
}
