package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/cima-project/cima/hw/verify"
	"github.com/cima-project/cima/hw/vtpm"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/pcr"
	"github.com/cima-project/cima/rpc"
)

// azure are the checks of a boot with VM_AZURE: of a VM that says that it is Azure's, with a TPM, and without
// a TD's device.
var azure = []check{
	{"a VM of Azure's whose TPM has no HCL report: cimad says so, and gives up", azureWithout},
	{"a TPM in a paravisor: cimad finds it by its device, and proves a container of docker's by PCR 13", azureProved},
	{"SIGKILL during 1,000 extends of /dev/tpmrm0: no extend lost or doubled, and the key is the same", azureKilled},
	{"root resets PCRs: the TPM refuses that of PCR 13; cimad takes none that it could reset", azureResets},
	{"root extends one bank of PCR 13: evidence is refused with the last agreement, also by the next daemon", azureOneBank},
}

func azureWithout(ctx context.Context, _ *world) error {
	const says = "this VM of Azure's is no confidential VM"
	for range 60 {
		if out, _ := command(ctx, "journalctl", "-u", "cimad.service", "-o", "cat"); strings.Contains(out, says) {
			break
		}
		time.Sleep(time.Second)
	}
	out, err := command(ctx, "journalctl", "-u", "cimad.service", "-o", "cat")
	if err != nil || !strings.Contains(out, says) {
		return fmt.Errorf("the journal must say %q: %w: %s", says, err, out)
	}
	if state := property(ctx, "cimad.service", "ActiveState"); state == "active" {
		return errors.New("cimad must not run")
	}
	return nil
}

// restartOnAzure starts cimad anew, as after a boot.
func restartOnAzure(ctx context.Context) error {
	command(ctx, "systemctl", "reset-failed", "cimad.service", "cimad.socket", "cima-imds.socket")
	_, err := command(ctx, "systemctl", "restart", "cimad.socket", "cimad.service")
	return err
}

func azureProved(ctx context.Context, w *world) error {
	if err := paravisor(ctx); err != nil {
		return err
	}
	if err := restartOnAzure(ctx); err != nil {
		return err
	}
	nonce := newNonce()
	out, id, err := dockerd.start(ctx, hex.EncodeToString(nonce)+"\n", nil, "/cimactl", "evidence", "--nonce", "-")
	if err != nil {
		return err
	}
	w.keep("evidence/azure.json", []byte(out))
	e, claims, err := rpc.DecodeEvidence([]byte(strings.TrimSpace(out)))
	if err != nil {
		return err
	}
	if e.TEE != "azure-snp" || claims.Log.Anchor != logs.AnchorPCR {
		return fmt.Errorf("evidence of %s with the anchor %s, must be of azure-snp with %s", e.TEE, claims.Log.Anchor, logs.AnchorPCR)
	}
	if err := dockerd.expect(id, claims.Container); err != nil {
		return err
	}
	result, err := authentic(ctx, []byte(out), nonce)
	if err != nil {
		return err
	}
	events, err := held(ctx)
	if err != nil {
		return err
	}
	w.note("%d events, %s; %s", len(events), result.Step(verify.StepRuntimeLog).Detail, result.Step(verify.StepBootLog).Detail)
	return nil
}

// authentic has evidence judged by the released cimactl, without a policy: each step that binds it holds.
func authentic(ctx context.Context, bundle, nonce []byte) (*verify.Result, error) {
	c := exec.CommandContext(ctx, "cimactl", "verify", "-", "--nonce", hex.EncodeToString(nonce), "--trust-root", rootPEM, "--json")
	c.Stdin = bytes.NewReader(bundle)
	out, err := finish(c)
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 4) {
		return nil, err
	}
	var r verify.Result
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		return nil, err
	}
	for _, name := range []string{verify.StepQuote, verify.StepReportData, verify.StepAgent, verify.StepNonce, verify.StepBootLog, verify.StepRuntimeLog, verify.StepClaims, verify.StepCaller} {
		if s := r.Step(name); s.Outcome != verify.Pass && s.Outcome != verify.Warn {
			return nil, fmt.Errorf("%s: %s: %s; %v", name, s.Outcome, s.Detail, failedSteps(&r))
		}
	}
	return &r, nil
}

// onDisk are the events in the daemon's file.
func onDisk() (events []logs.Event, err error) {
	file, err := os.ReadFile(runtimeLog)
	if err != nil {
		return nil, err
	}
	whole := file[:bytes.LastIndexByte(file, '\n')+1] // a line may be half written
	for _, line := range bytes.Split(bytes.TrimSuffix(whole, []byte("\n")), []byte("\n"))[1:] {
		var r struct{ Event []byte }
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, err
		}
		e, err := logs.ParseEvent(r.Event)
		if err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	return events, nil
}

// held waits until both banks of PCR 13 hold what the daemon's file replays to from zeros, and returns
// the events.
func held(ctx context.Context) (events []logs.Event, err error) {
	tpm := vtpm.New(openTPM)
	defer tpm.Close()
	var got, want pcr.Value
	for range 100 {
		if events, err = onDisk(); err != nil {
			return nil, err
		}
		if got, err = tpm.PCR(ctx, logPCR); err != nil {
			return nil, err
		}
		want = pcr.Value{}.WithSHA256([32]byte{}).WithSHA384([48]byte{})
		for _, e := range events {
			want = want.Extend(e.Digest())
		}
		if got == want {
			return events, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return nil, fmt.Errorf("PCR %d holds %v, and the log of %d events comes to %v", logPCR, got, len(events), want)
}

// azureKilled is as killed, on PCR 13.
func azureKilled(ctx context.Context, w *world) error {
	nonce := newNonce()
	bundle, err := hostEvidence(ctx, nonce)
	if err != nil {
		return err
	}
	_, first, err := rpc.DecodeEvidence(bundle)
	if err != nil {
		return err
	}
	before, err := held(ctx)
	if err != nil {
		return err
	}
	var s storm
	if err := s.run(ctx); err != nil {
		return err
	}
	if bundle, err = hostEvidence(ctx, nonce); err != nil {
		return err
	}
	if _, err := authentic(ctx, bundle, nonce); err != nil {
		return err
	}
	_, claims, err := rpc.DecodeEvidence(bundle)
	if err != nil {
		return err
	}
	if claims.Agent != first.Agent {
		return errors.New("the agent's key must outlive the kills")
	}
	after, err := held(ctx)
	if err != nil {
		return err
	}
	return s.counted(w, after[len(before):])
}

func azureResets(ctx context.Context, w *world) error {
	const reset, locality = 0x13d, 0x907 // TPM2_PCR_Reset, TPM_RC_LOCALITY
	rc, err := byRoot(reset, logPCR, nil)
	if err != nil || rc != locality {
		return fmt.Errorf("the TPM answered a reset of PCR %d with %#x, must be %#x: %w", logPCR, rc, locality, err)
	}
	if _, err := held(ctx); err != nil {
		return err
	}
	nonce := newNonce()
	bundle, err := hostEvidence(ctx, nonce)
	if err != nil {
		return err
	}
	if _, err := authentic(ctx, bundle, nonce); err != nil {
		return err
	}
	// Those that root can reset.
	var can []string
	for number := range uint32(24) {
		if number == logPCR {
			continue
		}
		rc, err := byRoot(reset, number, nil)
		if err != nil {
			return err
		}
		if rc != 0 {
			continue
		}
		can = append(can, fmt.Sprint(number))
		file := fmt.Sprintf("/tmp/cimad-%d.toml", number)
		if err := os.WriteFile(file, fmt.Appendf(nil, "pcr = %d\n", number), 0o600); err != nil {
			return err
		}
		if out, err := command(ctx, "cimad", "--config", file, "--check-config"); err == nil {
			return fmt.Errorf("cimad takes PCR %d, which root can reset: %s", number, out)
		}
	}
	if !slices.Equal(can, []string{"16", "23"}) {
		return fmt.Errorf("root can reset the PCRs %v, must be 16 and 23", can)
	}
	w.note("rc %#x; root can reset %s", rc, strings.Join(can, " and "))
	return nil
}

// azureOneBank extends the bank that no quote is over.
func azureOneBank(ctx context.Context, _ *world) error {
	events, err := held(ctx)
	for before := -1; err == nil && before < len(events); time.Sleep(3 * time.Second) { // until all is logged
		before = len(events)
		events, err = held(ctx)
	}
	if err != nil {
		return err
	}
	parameters := binary.BigEndian.AppendUint32(nil, 1)
	parameters = append(parameters, 0, 0x0c) // SHA-384
	parameters = append(parameters, bytes.Repeat([]byte{7}, 48)...)
	if rc, err := byRoot(0x182, logPCR, parameters); err != nil || rc != 0 {
		return fmt.Errorf("TPM2_PCR_Extend: %#x, %w", rc, err)
	}
	if err := refusedAndAlive(ctx, len(events)); err != nil {
		return err
	}
	if _, err := command(ctx, "systemctl", "restart", "cimad.service"); err != nil {
		return err
	}
	return refusedAndAlive(ctx, len(events)-1) // the last event may never have been extended
}
