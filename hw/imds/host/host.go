// Package host answers: what does the host of an Azure VM say?
//
// It asks the instance metadata service, at one fixed address that the host answers itself
// (169.254.169.254). It keeps nothing and judges nothing: what it passes on is signed by the
// hardware or it is worthless. The program cima-imds is it; its unit, cima-imds.service, lets it
// reach no other address.
package host

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json/v2"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/cima-project/cima/hw/imds"
)

// service is the address of the instance metadata service.
const service = "http://169.254.169.254"

// maxAnswer bounds what the service says, in bytes: real answers have less than 16 KiB.
const maxAnswer = 64 << 10

// host is the service behind an address. It follows no redirection, uses no proxy and keeps no
// connection.
type host struct {
	address string
	http    *http.Client
}

func newHost(address string) *host {
	return &host{address, &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 16 << 10},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       20 * time.Second,
	}}
}

// answer is the reply to a request.
func (h *host) answer(ctx context.Context, q imds.Request) (r imds.Reply) {
	err := q.Check()
	switch {
	case err != nil:
	case q.Certificates:
		r.Certificates, err = h.certificates(ctx)
	default:
		r.Quote, err = h.quote(ctx, q.Report)
	}
	if err != nil {
		return imds.Reply{Error: err.Error()}
	}
	return r
}

// quote asks for a TDX quote over a TDREPORT (Azure, acc/tdquote: members in base64url).
func (h *host) quote(ctx context.Context, report []byte) ([]byte, error) {
	body, err := json.Marshal(map[string]string{"report": base64.RawURLEncoding.EncodeToString(report)})
	if err != nil {
		return nil, err
	}
	var said struct {
		Quote string `json:"quote"`
	}
	if err := h.ask(ctx, http.MethodPost, "/acc/tdquote", body, &said); err != nil {
		return nil, err
	}
	quote, err := base64.RawURLEncoding.DecodeString(string(bytes.TrimRight([]byte(said.Quote), "=")))
	if err != nil || len(quote) == 0 {
		return nil, fmt.Errorf("/acc/tdquote gave a quote of %d characters that is not base64url", len(said.Quote))
	}
	return quote, nil
}

// certificates asks for the chain of SNP reports (Azure, THIM: PEM).
func (h *host) certificates(ctx context.Context) (chain [][]byte, err error) {
	var said struct {
		Leaf  string `json:"vcekCert"`
		Above string `json:"certificateChain"`
	}
	if err := h.ask(ctx, http.MethodGet, "/metadata/THIM/amd/certification", nil, &said); err != nil {
		return nil, err
	}
	for rest := []byte(said.Leaf + "\n" + said.Above); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" || len(chain) == 3 {
			return nil, errors.New("/metadata/THIM/amd/certification gave more than three certificates")
		}
		chain = append(chain, block.Bytes)
	}
	if len(chain) == 0 {
		return nil, errors.New("/metadata/THIM/amd/certification gave no certificate")
	}
	return chain, nil
}

func (h *host) ask(ctx context.Context, method, path string, body []byte, into any) error {
	request, err := http.NewRequestWithContext(ctx, method, h.address+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Metadata", "true")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := h.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", path, err)
	case response.StatusCode != http.StatusOK:
		return fmt.Errorf("%s: the host answered %d", path, response.StatusCode)
	case len(text) > maxAnswer:
		return fmt.Errorf("%s: the host answered more than %d bytes", path, maxAnswer)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s: the host answered no JSON: %w", path, err)
	}
	return nil
}
