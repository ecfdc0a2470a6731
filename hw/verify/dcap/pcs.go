package dcap

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// PCS is Intel's Provisioning Certification Service, or another service with its
// API, version 4 (a PCCS). The zero PCS is Intel's.
type PCS struct {
	API          string       // URL; default: https://api.trustedservices.intel.com
	Certificates string       // URL of the root's CRL without its file name; default: https://certificates.trustedservices.intel.com
	Client       *http.Client // default: http.DefaultClient
}

// NetworkError says that a service did not give a document.
type NetworkError struct {
	URL string
	Err error
}

// Error says which service, and why.
func (e *NetworkError) Error() string { return fmt.Sprintf("collateral from %s: %v", e.URL, e.Err) }

// Unwrap returns the cause.
func (e *NetworkError) Unwrap() error { return e.Err }

// pcsTimeout bounds the wait for one document.
const pcsTimeout = 30 * time.Second

// Get gets a document from the service, within 30 seconds. Its errors are
// *NetworkError.
func (p PCS) Get(ctx context.Context, doc Document, of string) (body, chain []byte, err error) {
	api, certificates, client := p.API, p.Certificates, p.Client
	if api == "" {
		api = "https://api.trustedservices.intel.com"
	}
	if certificates == "" {
		certificates = "https://certificates.trustedservices.intel.com"
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
		from = certificates + "/IntelSGXRootCA.der"
	}
	ctx, cancel := context.WithTimeout(ctx, pcsTimeout)
	defer cancel()
	body, escaped, err := fetch(ctx, client, from, header)
	if err == nil && header != "" {
		chain, err = unescapeChain(escaped)
	}
	if err != nil {
		return nil, nil, &NetworkError{from, err}
	}
	return body, chain, nil
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
		return nil, "", fmt.Errorf("the service answered %s", answer.Status)
	}
	if body, err = bounded(from, answer.Body); err != nil {
		return nil, "", err
	}
	if header != "" && answer.Header.Get(header) == "" {
		return nil, "", fmt.Errorf("the answer has no header %s", header)
	}
	return body, answer.Header.Get(header), nil
}
