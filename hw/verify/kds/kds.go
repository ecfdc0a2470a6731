// Package kds answers: what does AMD's service say of its processors?
//
// That is the Key Distribution Service (57230, section 4, by AMD): certificates and lists of
// revoked ones. What it gives is signed and need not be trusted; whoever uses it checks it.
package kds

import (
	"context"
	"net/http"
	"strings"

	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/snp"
)

// amd is the service. It limits how often it is asked.
const amd = "https://kdsintf.amd.com"

// Service is AMD's, or one with its interface. The zero Service is AMD's.
type Service struct {
	API    string       // URL, without a path of the interface; default: AMD's service
	Client *http.Client // default: http.DefaultClient
}

// List gets a revocation list, DER, within 30 seconds. Its errors are *dcap.NetworkError.
func (s Service) List(ctx context.Context, line snp.Line, vlek bool) ([]byte, error) {
	kind := "vcek"
	if vlek {
		kind = "vlek"
	}
	return s.get(ctx, "/"+kind+"/v1/"+string(line)+"/crl")
}

func (s Service) get(ctx context.Context, path string) ([]byte, error) {
	api, client := amd, s.Client
	if s.API != "" {
		api = strings.TrimSuffix(s.API, "/")
	}
	if client == nil {
		client = http.DefaultClient
	}
	return dcap.Download(ctx, client, api+path)
}
