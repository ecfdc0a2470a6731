// Package verifytest answers: which evidence does a test appraise that is not the verifier's own?
//
// It makes evidence of containers on a simulated TD, as the daemon does.
package verifytest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"slices"
	"testing"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/sim"
	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/verify/codes"
	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/hw/verify/vtpm"
	"github.com/cima-project/cima/hw/verify/vtpm/vtpmtest"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/logs/canonical"
	"github.com/cima-project/cima/rpc"
)

// TD is a simulated one, with an agent's log.
type TD struct {
	t       testing.TB
	machine *sim.Machine
	key     ed25519.PrivateKey
	log     []logs.Event
	started map[string]*rpc.ContainerClaims
	tpm     *vtpmtest.TPM // in its paravisor; nil: RTMR3 holds the log
}

// Boot boots one.
func Boot(t testing.TB, config sim.Config) *TD { return start(t, config, nil) }

// BootWithTPM boots a VM whose paravisor is the TD, and has this TPM: its PCR 13 holds the log.
func BootWithTPM(t testing.TB, tpm *vtpmtest.TPM) *TD {
	return start(t, sim.Config{BootLog: boot.Encode(nil)}, tpm)
}

func start(t testing.TB, config sim.Config, tpm *vtpmtest.TPM) *TD {
	t.Helper()
	machine, err := sim.Boot(config)
	if err != nil {
		t.Fatal(err)
	}
	d := &TD{t: t, machine: machine, key: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize)), started: map[string]*rpc.ContainerClaims{}, tpm: tpm}
	id, err := machine.BootID()
	if err != nil {
		t.Fatal(err)
	}
	register := ""
	if tpm != nil {
		register = fmt.Sprintf(`,"register":{"pcr":%d,"first":{"sha256":"%064d","sha384":"%096d"}}`, logPCR, 0, 0)
	}
	d.append(logs.OpStart, "", fmt.Sprintf(`{"version":"1","agent_key":%q,"boot_id":%q%s}`, base64.StdEncoding.EncodeToString(d.public()), id, register))
	return d
}

const logPCR = 13

func (d *TD) public() ed25519.PublicKey { return d.key.Public().(ed25519.PublicKey) }

func (d *TD) append(operation, container, body string) [48]byte {
	d.t.Helper()
	c := logs.Content{Container: container, Measured: fmt.Appendf(nil, `{%q:%s}`, operation, body)}
	if container != "" {
		c.Salt = base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "salt%012d", len(d.log)))
	}
	e, err := logs.NewEvent(operation, c)
	if digest := e.Digest(); err == nil && d.machine.Parts().Anchor == logs.AnchorReportData {
		// nothing to extend
	} else if err == nil && d.tpm != nil {
		d.tpm.Extend(logPCR, sha256.Sum256(digest[:]))
	} else if err == nil {
		err = d.machine.Extend(context.Background(), digest)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	d.log = append(d.log, e)
	measured, _ := e.MeasuredDigest()
	return measured
}

// Launch logs that a container was started with one argument, and returns its ID. The
// digit tells containers apart.
func (d *TD) Launch(digit, image, argument string) (id string) {
	d.t.Helper()
	id = string(bytes.Repeat([]byte(digit), 64))
	config := fmt.Sprintf("sha256:%x", sha512.Sum512_256([]byte(image)))
	asked, defaults := fmt.Sprintf(`{"arguments":[%q]}`, argument), `{"umask":18}`
	var register canonical.Digest
	register = register.Extend(d.append(logs.OpLaunch, id, fmt.Sprintf(`{"source":"bundle","cgroup_owner":0,"asked":%s,"defaults":%s,"image_config":%q}`, asked, defaults, config)))
	register = register.Extend(d.append(logs.OpImage, id, fmt.Sprintf(`{"reference":%q,"digest":%q,"layers":["sha256:aa"]}`, image, config)))
	d.started[id] = &rpc.ContainerClaims{
		ID: id, Runtime: "docker", Image: image, ImageDigest: config, Register: register,
		LaunchDigest:   sha512.Sum384(fmt.Appendf(nil, `{"asked":"%x","cgroup_owner":0,"image":{"config":%q},"source":"bundle"}`, sha512.Sum384([]byte(asked)), config)),
		DefaultsDigest: sha512.Sum384([]byte(defaults)),
		Assurance:      rpc.Assurance{Start: logs.StartGated, PIDFD: true, Metadata: "bundle+engine"},
	}
	return id
}

// Power logs that some container has a class of power.
func (d *TD) Power(class string) {
	d.t.Helper()
	d.append(logs.OpPower, "", fmt.Sprintf(`{"classes":[%q]}`, class))
}

// Evidence is what the daemon gives this container.
func (d *TD) Evidence(id string, nonce, userData []byte) []byte {
	d.t.Helper()
	return d.evidence(rpc.Claims{Container: d.started[id]}, id, nonce, userData)
}

// HostEvidence is what the daemon gives root's processes of this unit, in no container.
func (d *TD) HostEvidence(unit string, nonce, userData []byte) []byte {
	d.t.Helper()
	return d.evidence(rpc.Claims{Host: &rpc.HostClaims{Unit: unit}}, "", nonce, userData)
}

// evidence is what the daemon gives this caller.
func (d *TD) evidence(c rpc.Claims, id string, nonce, userData []byte) []byte {
	d.t.Helper()
	snp := d.machine.Parts().TEE == hw.TEESNP
	raw, err := d.machine.BootLog()
	if err == nil && !snp {
		raw, err = boot.Trim(raw)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	c.Profile, c.Agent, c.Nonce, c.UserData = rpc.ClaimsProfile, sha512.Sum384(d.public()), nonce, userData
	c.BootLog, c.Log = sha512.Sum384(raw), rpc.LogClaims{Count: len(d.log), Anchor: logs.AnchorRTMR3}
	var register, public canonical.Digest
	e := &rpc.Evidence{Profile: rpc.EvidenceProfile, TEE: "tdx", BootLog: raw}
	for _, event := range d.log {
		register = register.Extend(event.Digest())
		if measured, _ := event.MeasuredDigest(); event.Container == "" {
			public = public.Extend(measured)
		}
		e.RuntimeLog = show(e.RuntimeLog, event, id)
	}
	c.Log.Register, c.Log.Public = register, public
	if snp {
		e.TEE, c.BootLogFormat, c.Log.Anchor = hw.TEESNP, hw.BootLogNone, logs.AnchorReportData
	}
	if d.tpm != nil {
		e.TEE, e.BootLog = hw.TEEAzureTDX, d.tpm.Log
		c.BootLog, c.BootLogFormat, c.Log.Anchor = sha512.Sum384(d.tpm.Log), hw.BootLogTPM, logs.AnchorPCR
	}
	if e.Claims, err = canonical.Marshal(&c); err != nil {
		d.t.Fatal(err)
	}
	data, err := rpc.ReportData(e.Claims)
	quoted := data
	if d.tpm != nil {
		attest := d.tpm.Attest(vtpm.DataFor(data))
		e.Platform = rpc.Platform{RuntimeData: d.tpm.Runtime(), TPMQuote: attest, TPMSignature: d.tpm.Sign(d.t, attest), PCRs: d.tpm.PCRs()}
		quoted = d.tpm.ReportData()
	}
	if err == nil {
		e.Quote, err = d.machine.Quote(context.Background(), hw.ReportData(quoted))
	}
	if err == nil && snp {
		var signed hw.Signed
		signed, err = d.machine.Open(e.Quote)
		e.Quote, e.Platform = signed.Quote, rpc.Platform{Certificates: signed.Certificates}
	}
	if err != nil {
		d.t.Fatal(err)
	}
	e.AgentSignature = rpc.SignReportData(d.key, data)
	bundle, err := e.AppendJSON(nil)
	if err != nil {
		d.t.Fatal(err)
	}
	return bundle
}

// show adds an event as a container sees it. Others' events in a row are one run.
func show(log []rpc.LogEntry, e logs.Event, id string) []rpc.LogEntry {
	if e.Container == "" || e.Container == id {
		return append(log, rpc.LogEntry{Event: e.Bytes()})
	}
	digest := e.Digest()
	if n := len(log); n > 0 && log[n-1].Digests != nil {
		log[n-1].Digests = append(log[n-1].Digests, digest[:]...)
		return log
	}
	return append(log, rpc.LogEntry{Digests: digest[:]})
}

// Machine is the simulated TD itself.
func (d *TD) Machine() *sim.Machine { return d.machine }

// Root is the file of the root that vouches for the TD.
func (d *TD) Root() []byte { return d.machine.RootPEM() }

// Appraise appraises evidence, with or without a policy.
func (d *TD) Appraise(bundle, nonce []byte, p *policy.Policy) *verify.Result {
	d.t.Helper()
	var roots []*x509.Certificate
	roots, err := dcap.ParseRoots(d.Root())
	if err != nil {
		d.t.Fatal(err)
	}
	r, err := verify.Appraise(context.Background(), bundle, verify.Options{Nonce: nonce, TrustRoots: roots, Policy: p, Verifier: "cimactl test"})
	if err != nil {
		d.t.Fatal(err)
	}
	return r
}

// Policy makes a policy of an appraisal that waives what a simulated TD leaves open.
func (d *TD) Policy(r *verify.Result) (text []byte, p *policy.Policy) {
	d.t.Helper()
	waive := []string{codes.HostUnknown, codes.Root, codes.LineOpens}
	for _, s := range r.NotProved {
		if code, known := codes.Of(s.Code); known && code.Stands && !slices.Contains(waive, s.Code) {
			waive = append(waive, s.Code)
		}
	}
	text, _, err := verify.InitPolicy([]*verify.Result{r}, waive)
	if err == nil {
		p, err = policy.Parse("policy", text)
	}
	if err != nil {
		d.t.Fatalf("%v in\n%s", err, text)
	}
	return text, p
}
