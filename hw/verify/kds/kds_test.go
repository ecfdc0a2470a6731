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

func is(err error) bool {
	_, is := errors.AsType[*dcap.NetworkError](err)
	return is
}
