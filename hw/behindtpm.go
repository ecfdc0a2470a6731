//go:build linux

package hw

import (
	"encoding/binary"
	"fmt"

	"github.com/cima-project/cima/hw/vtpm"
)

// What a vTPM inside the TEE and the hardware below it sign travels through the daemon as
// one answer: parts, each behind its length of 32 bits, big-endian. The five of Signed come
// first, then certificates.

// maxChain bounds the certificates of an answer.
const maxChain = 8

// JoinVTPM is the answer of a platform with a vTPM inside: all of s but its registers.
func JoinVTPM(s Signed) (answer []byte) {
	for _, part := range append([][]byte{s.Quote, s.RuntimeData, s.TPMQuote, s.TPMSignature, s.PCRs}, s.Certificates...) {
		answer = append(binary.BigEndian.AppendUint32(answer, uint32(len(part))), part...)
	}
	return answer
}

// OpenVTPM takes such an answer apart; tee is TEEAzureTDX or TEEAzureSNP. Registers are those that
// the hardware signed, and of the PCRs that which holds the log, 0 to 23, in the bank of SHA-256. It
// checks no signature. Its errors are ErrMalformed.
func OpenVTPM(answer []byte, tee string, number int) (s Signed, err error) {
	var parts [][]byte
	for rest := answer; len(rest) > 0; {
		if len(rest) < 4 || uint64(binary.BigEndian.Uint32(rest)) > uint64(len(rest)-4) || len(parts) == 5+maxChain {
			return s, fmt.Errorf("%w: %d bytes that are no answer of a vTPM", ErrMalformed, len(answer))
		}
		end := 4 + int(binary.BigEndian.Uint32(rest))
		parts, rest = append(parts, rest[4:end:end]), rest[end:]
	}
	if len(parts) < 5 {
		return s, fmt.Errorf("%w: %d parts of an answer of a vTPM, must be at least 5", ErrMalformed, len(parts))
	}
	s = Signed{Quote: parts[0], RuntimeData: parts[1], TPMQuote: parts[2], TPMSignature: parts[3], PCRs: parts[4]}
	if len(parts) > 5 {
		s.Certificates = parts[5:]
	}
	switch tee {
	case TEEAzureTDX:
		if s.Quote, s.Registers, err = boundQuote(s.Quote, runtimeData(s.RuntimeData)); err != nil {
			return Signed{}, err
		}
	case TEEAzureSNP:
		if len(s.Quote) != snpReport || ReportData(s.Quote[snpData:]) != runtimeData(s.RuntimeData) {
			return Signed{}, fmt.Errorf("%w: %d bytes that are no SNP report over the runtime data", ErrMalformed, len(s.Quote))
		}
		s.Registers = snpRegisters(s.Quote)
	default:
		return Signed{}, fmt.Errorf("a TEE %q has no vTPM", tee)
	}
	attest, err := vtpm.ReadAttest(s.TPMQuote)
	if err == nil {
		err = attest.Covers(s.PCRs)
	}
	if err != nil {
		return Signed{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	s.Registers.PCR = vtpm.Quoted(s.PCRs, number)
	return s, nil
}
