// Package kds answers: what does AMD's service say of its processors?
//
// That is the Key Distribution Service (57230, section 4, by AMD): certificates and lists of
// revoked ones. What it gives is signed and need not be trusted; whoever uses it checks it.
package kds

import (
	"context"
	"errors"
	"fmt"
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

// Certificate gets a chip's certificate, DER, and what stands above it where the built-in ones do
// not: the service limits how often it is asked. Each takes at most 30 seconds. The report is not looked
// at. The error is an *snp.UnknownKeyError where the service knows no such key; others are
// *dcap.NetworkError.
func (s Service) Certificate(ctx context.Context, _ *snp.Report, k snp.Key) (leaf, above []byte, err error) {
	path := "/vcek/v1/" + string(k.Line) + "/"
	leaf, err = s.get(ctx, path+k.Chip+"?"+query(k))
	if failed, is := errors.AsType[*dcap.NetworkError](err); is && failed.Status() == http.StatusNotFound {
		return nil, nil, &snp.UnknownKeyError{Key: k}
	}
	if err != nil || snp.BuiltIn(leaf) {
		return leaf, nil, err
	}
	above, err = s.get(ctx, path+"cert_chain")
	return leaf, above, err
}

// query are the parts of the TCB that the service has names for, of two digits at least.
func query(k snp.Key) string {
	var parts []string
	for _, p := range k.Line.Parts() {
		parts = append(parts, fmt.Sprintf("%sSPL=%02d", p.Name, p.Of(k.TCB)))
	}
	return strings.Join(parts, "&")
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
