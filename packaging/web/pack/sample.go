package main

import (
	"context"
	"encoding/base64"
	"encoding/json/v2"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/codes"
	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/cimactl/command"
)

// sampleAt is the time for which the sample is judged.
const sampleAt = "2026-11-30T00:00:00Z"

// sample is evidence that the page's verifier appraises before it appraises anybody's, with a
// policy that the evidence meets, and the result that it must come to: this program, which is
// no WebAssembly, came to it. It is JSON in base64, so that no text in it ends an element.
func sample(bundle, root, version string) (string, error) {
	evidence, err := os.ReadFile(bundle)
	if err != nil {
		return "", err
	}
	pem, err := os.ReadFile(root)
	if err != nil {
		return "", err
	}
	_, claims, err := rpc.DecodeEvidence(evidence)
	if err != nil {
		return "", fmt.Errorf("%s: %w", bundle, err)
	}
	opts := verify.Options{Nonce: claims.Nonce, Verifier: "cimactl " + version}
	if opts.TrustRoots, err = dcap.ParseRoots(pem); err != nil {
		return "", fmt.Errorf("%s: %w", root, err)
	}
	if opts.At, err = time.Parse(time.RFC3339, sampleAt); err != nil {
		return "", err
	}
	r, err := verify.Appraise(context.Background(), evidence, opts)
	if err != nil {
		return "", err
	}
	text, _, err := verify.InitPolicy([]*verify.Result{r}, []string{codes.Collateral, codes.HostUnknown})
	if err != nil {
		return "", err
	}
	if opts.Policy, err = policy.Parse("policy", text); err != nil {
		return "", err
	}
	if r, err = verify.Appraise(context.Background(), evidence, opts); err != nil {
		return "", err
	}
	if r.Verdict != verify.Trusted {
		return "", fmt.Errorf("the sample %s must be trusted under a policy made of it: %s", bundle, r.Reason)
	}
	var result strings.Builder
	as := &cobra.Command{}
	as.SetOut(&result)
	if err := command.PrintJSON(as, r); err != nil {
		return "", err
	}
	packed, err := json.Marshal(map[string]string{
		"evidence": string(evidence), "policy": string(text), "root": string(pem),
		"nonce": fmt.Sprintf("%x", claims.Nonce), "at": sampleAt, "result": result.String(),
	}, json.Deterministic(true))
	return base64.StdEncoding.EncodeToString(packed), err
}
