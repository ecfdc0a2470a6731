//go:build linux

package hw

import (
	"context"
	"io"
	"strings"

	"github.com/cima-project/cima/hw/imds"
	"github.com/cima-project/cima/hw/vtpm"
)

// Options say what a platform is made of. The zero value of each means this machine's.
type Options struct {
	TDXOptions
	PCR      int                                // 0 to 23: that of a vTPM inside the TEE which holds the log
	OpenTPM  func() (io.ReadWriteCloser, error) // a connection to the TPM; nil: /dev/tpmrm0
	Endorser Endorser                           // nil: cima-imds
}

// azureTag is the asset tag of each of Azure's VMs, confidential or not.
const azureTag = "7783-7084-3265-9085-8269-3286-77"

// Detect is the platform of this machine, by the devices that its kernel has: a TD's; or
// else that of an SNP guest which may ask the firmware itself; or else that of an Azure VM,
// by its asset tag and its TPM, whose HCL report says which it is. Without any it is a TD,
// whose calls then say what is missing. The error is that of an Azure VM whose vTPM has no
// HCL report, or doesn't answer.
func Detect(ctx context.Context, o Options) (TEE, error) {
	t := NewTDX(o.TDXOptions)
	switch {
	case t.exists(t.device()):
	case t.exists(t.snpDevice()):
		return newSNP(o.TDXOptions), nil
	case onAzure(t):
		open := o.OpenTPM
		if open == nil {
			open = func() (io.ReadWriteCloser, error) { return openTPM(t.tpmDevice()) }
		}
		endorser := o.Endorser
		if endorser == nil {
			endorser = imds.Client{Path: imds.Socket}
		}
		tpm := vtpm.New(open)
		a, err := newAzure(ctx, t, tpm, o.PCR, endorser)
		if err != nil {
			tpm.Close()
			return nil, err
		}
		return a, nil
	}
	return t, nil
}

// onAzure reports whether this is a VM of Azure's with a TPM.
func onAzure(t *TDX) bool {
	tag, err := t.files.Read(t.assetTag(), 256)
	return err == nil && strings.TrimSpace(string(tag)) == azureTag && t.exists(t.tpmDevice())
}
