package main

import (
	"bytes"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cima-project/cima/logs/boot"
	"github.com/cima-project/cima/packaging/test/tpmlog"
)

// event is one of cimactl's report.
type event struct {
	Register string `json:"register"`
	PCR      int    `json:"pcr"`
	Verdict  string `json:"verdict"`
	Kind     string `json:"kind"`
	What     string `json:"what"`
	Digest   string `json:"digest"`
	Type     string `json:"type"`
	Detail   string `json:"detail"`
	Look     string `json:"look"`
}

type report struct {
	Registers map[string]string `json:"registers"`
	Events    []event           `json:"events"`
	Counts    map[string]int    `json:"counts"`
}

// cimactlJSON runs cimactl, and reads what it reports. Exit codes above 1 are verdicts.
func cimactlJSON(args ...string) (r report, code int, err error) {
	var stderr bytes.Buffer
	command := exec.Command(*cimactl, append([]string{"predict", "boot", "--json"}, args...)...)
	command.Stderr = &stderr
	out, err := command.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && (exit.ExitCode() == 2 || exit.ExitCode() == 6) {
		code, err = exit.ExitCode(), nil
	}
	if err != nil {
		return r, code, fmt.Errorf("cimactl %q: %w: %s", args, err, &stderr)
	}
	return r, code, json.Unmarshal(out, &r, json.RejectUnknownMembers(false))
}

// prove predicts a boot, boots, and compares.
func prove(s suite, w way) (string, error) {
	work, err := os.MkdirTemp(*dir, "work-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	initrd, err := makeInitrd(work)
	if err != nil {
		return "", err
	}
	m, predict, err := w.make(s, work, initrd)
	if errors.Is(err, errOlder) {
		return "not booted: " + err.Error(), nil
	}
	if err != nil {
		return "", err
	}
	predicted, _, err := cimactlJSON(predict...)
	if err != nil && strings.Contains(err.Error(), "2.12 and 2.14 of Debian") {
		return "not booted: " + errOlder.Error(), nil
	}
	if err != nil {
		return "", err
	}
	m.work = work
	if m.code, err = must(s.glob("usr/share/OVMF/OVMF_CODE_4M.fd"), "firmware"); err != nil {
		return "", err
	}
	m.vars = s.glob("usr/share/OVMF/OVMF_VARS_4M.fd")
	got, err := m.boot()
	if err != nil {
		return "", err
	}
	kept := filepath.Join(*dir, "logs", s.name+"-"+w.name+".tpm")
	if err := errors.Join(os.MkdirAll(filepath.Dir(kept), 0o755), os.WriteFile(kept, got.log, 0o600)); err != nil {
		return "", err
	}
	ccel, registers, err := tpmlog.AsTD(got.log)
	if err != nil {
		return "", err
	}
	path := filepath.Join(work, "ccel")
	if err := os.WriteFile(path, ccel, 0o600); err != nil {
		return "", err
	}
	note := ""
	if again, bad := refused(ccel); bad != nil || again {
		predict, note = append(predict, "--retried"), "; ExitBootServices was refused once"
		if predicted, _, err = cimactlJSON(predict...); err != nil {
			return "", err
		}
	}
	seen, code, err := cimactlJSON(append(predict, "--check", path)...)
	if err != nil {
		return "", err
	}
	if err := asPredicted(predicted, seen, code, registers, got); err != nil {
		return "", err
	}
	return fmt.Sprintf("kernel %s: RTMR1 %s, RTMR2 %s events, registers equal; PCRs %v of the TPM bit for bit%s", version(s.kernel()),
		count(seen, "rtmr1"), count(seen, "rtmr2"), pcrsOf(predicted), note), nil
}

// refused reports whether firmware refused the first call of ExitBootServices: the one event
// that no file decides.
func refused(ccel []byte) (bool, error) {
	log, err := boot.Parse(ccel)
	if err != nil {
		return false, err
	}
	for _, e := range log.UnverifiedEvents() {
		if e.Type == boot.EvEFIAction && string(e.Data) == "Exit Boot Services Returned with Failure" {
			return true, nil
		}
	}
	return false, nil
}

func count(r report, register string) string {
	all, good := 0, 0
	for _, e := range r.Events {
		if e.Register == register {
			all++
			if e.Verdict == "predicted" {
				good++
			}
		}
	}
	return fmt.Sprintf("%d of %d", good, all)
}

// asPredicted wants every event predicted, the registers of the log, and the TPM's.
func asPredicted(predicted, seen report, code int, registers boot.Registers, got *measured) error {
	var wrong []string
	for _, e := range seen.Events {
		if e.Verdict != "predicted" {
			wrong = append(wrong, fmt.Sprintf("%s %s %s %.12s %s (%s %s)", e.Register, e.Verdict, e.What, e.Digest, e.Look, e.Type, e.Detail))
		}
	}
	if code != 0 || len(wrong) > 0 {
		return fmt.Errorf("%d events are not as predicted:\n  %s", len(wrong), strings.Join(wrong, "\n  "))
	}
	for i := 1; i <= 2; i++ {
		if value := predicted.Registers[fmt.Sprint("rtmr", i)]; value != registers[i].String() {
			return fmt.Errorf("RTMR%d is %s, predicted %s", i, registers[i], value)
		}
	}
	for _, pcr := range pcrsOf(predicted) {
		if value := pcrValue(predicted, pcr); value != got.pcrs[pcr] {
			return fmt.Errorf("PCR %d is %s, predicted %s", pcr, got.pcrs[pcr], value)
		}
	}
	return nil
}

// pcrsOf are the registers of a TPM that a prediction speaks of.
func pcrsOf(r report) (list []int) {
	for _, e := range r.Events {
		if !slices.Contains(list, e.PCR) {
			list = append(list, e.PCR)
		}
	}
	slices.Sort(list)
	return list
}

// pcrValue is a TPM's register: firmware with a TPM writes the separator to each of its
// registers, before anything else of PCR 5.
func pcrValue(r report, pcr int) string {
	var value [48]byte
	extend := func(digest []byte) { value = sha512.Sum384(append(value[:], digest...)) }
	if pcr == 5 {
		sum := sha512.Sum384(make([]byte, 4))
		extend(sum[:])
	}
	for _, e := range r.Events {
		if digest, err := hex.DecodeString(e.Digest); err == nil && e.PCR == pcr {
			extend(digest)
		}
	}
	return hex.EncodeToString(value[:])
}
