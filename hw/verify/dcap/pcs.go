package dcap

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// PCS is Intel's Provisioning Certification Service, or a caching service (PCCS) with its
// API, version 4. The zero PCS is Intel's.
type PCS struct {
	API    string       // URL of a PCCS, without a path of the API; default: Intel's service
	Client *http.Client // default: http.DefaultClient
}

// Intel's service, and where Intel publishes the root's CRL. A PCCS gives it itself.
const (
	intelAPI     = "https://api.trustedservices.intel.com"
	intelRootCRL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
	pccsRootCRL  = "/sgx/certification/v4/rootcacrl"
)

// NetworkError says that a service did not give a document.
type NetworkError struct {
	URL string
	Err error
}

// Status is the status of HTTP with which the service refused; 0 where it did not.
func (e *NetworkError) Status() int {
	if refused, is := errors.AsType[*statusError](e.Err); is {
		return refused.code
	}
	return 0
}

type statusError struct {
	code int
	text string // with the code
}

func (e *statusError) Error() string { return "the service answered " + e.text }

// Error says which service, and why.
func (e *NetworkError) Error() string { return fmt.Sprintf("collateral from %s: %v", e.URL, e.Err) }

// Unwrap returns the cause.
func (e *NetworkError) Unwrap() error { return e.Err }

// pcsTimeout bounds the wait for one document.
const pcsTimeout = 30 * time.Second

// Get gets a document from the service, within 30 seconds. Its errors are
// *NetworkError.
func (p PCS) Get(ctx context.Context, doc Document, of string) (body, chain []byte, err error) {
	api, rootCRL, client := intelAPI, intelRootCRL, p.Client
	if p.API != "" {
		api = strings.TrimSuffix(p.API, "/")
		rootCRL = api + pccsRootCRL
	}
	if client == nil {
		client = http.DefaultClient
	}
	var from, header string
	switch doc {
	case TCBInfo:
		from, header = api+"/tdx/certification/v4/tcb?fmspc="+url.QueryEscape(of), "TCB-Info-Issuer-Chain"
	case QEIdentity:
		from, header = api+"/tdx/certification/v4/qe/identity", "SGX-Enclave-Identity-Issuer-Chain"
	case PCKCRL:
		from, header = api+"/sgx/certification/v4/pckcrl?ca="+url.QueryEscape(of)+"&encoding=der", "SGX-PCK-CRL-Issuer-Chain"
	default:
		from = rootCRL
	}
	ctx, cancel := context.WithTimeout(ctx, pcsTimeout)
	defer cancel()
	body, escaped, err := fetch(ctx, client, from, header)
	if err == nil && header != "" {
		chain, err = unescapeChain(escaped)
	}
	if doc == PCKCRL || doc == RootCRL {
		body = plainCRL(body)
	}
	if err != nil {
		return nil, nil, &NetworkError{from, plainly(err)}
	}
	return body, chain, nil
}

// Download gets a document of another service, within 30 seconds. Its errors are *NetworkError.
func Download(ctx context.Context, client *http.Client, from string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, pcsTimeout)
	defer cancel()
	body, _, err := fetch(ctx, client, from, "")
	if err != nil {
		return nil, &NetworkError{from, plainly(err)}
	}
	return body, nil
}

// plainly is an error of the network without the URL, which NetworkError names.
func plainly(err error) error {
	if of, ok := errors.AsType[*url.Error](err); ok {
		err = of.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the service did not answer in time: %w", err)
	}
	return err
}

func fetch(ctx context.Context, client *http.Client, from, header string) (body []byte, chain string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, "", err
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, "", err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, "", &statusError{answer.StatusCode, answer.Status}
	}
	if body, err = bounded(from, answer.Body); err != nil {
		return nil, "", err
	}
	if header != "" && answer.Header.Get(header) == "" {
		return nil, "", fmt.Errorf("the answer has no header %s", header)
	}
	return body, answer.Header.Get(header), nil
}

// plainCRL returns the DER of a revocation list. A PCCS gives it as hex.
func plainCRL(body []byte) []byte {
	if der, err := hex.DecodeString(strings.TrimSpace(string(body))); err == nil {
		return der
	}
	return body
}
